"""Admin pages of payments: their actions, and no secrets."""

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from lightning.models import LightningInvoice, NwcPayment, Resolution
from lightning.tasks import check_payment_hashes, run_nwc_payment
from lightning.tests.factories import make_invoice, make_payment_request, tenant_with
from lightning.tests.support.answers import UNPAID, answer_lookups
from lightning.tests.support.payments import run_payment, start_payment
from sandbox.common import secrets
from sandbox.wallets.behaviour import refuses

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]


@pytest.fixture
def payment(alice):
    return start_payment(make_payment_request(tenant_with(alice)))


def admin_url(model, name, *args):
    return reverse(f"admin:lightning_{model._meta.model_name}_{name}", args=args)


def run_action(client, row, action):
    data = {"action": action, "_selected_action": [row.pk]}
    return client.post(admin_url(type(row), "changelist"), data, follow=True)


def test_payment_pages_open_and_show_no_secret(admin_client, payment):
    run_payment(payment_id=payment.pk)
    invoice = payment.invoice
    invoice.refresh_from_db()

    for row in (payment, payment.invoice):
        for url in (
            admin_url(type(row), "changelist"),
            admin_url(type(row), "change", row.pk),
            f"{admin_url(type(row), 'changelist')}?q={payment.invoice.payment_hash}",
        ):
            answer = admin_client.get(url)
            assert answer.status_code == 200
            text = answer.content.decode()
            assert not [secret for secret in secrets.tracked if secret in text]
            assert invoice.preimage.reveal() not in text
            assert invoice.preimage.token not in text


def test_words_of_a_wallet_are_escaped_and_marked(admin_client, payment, alice):
    alice.behaviour = refuses("UNAUTHORIZED", "<b>Call us</b> at evil.example")
    run_payment(payment_id=payment.pk)

    page = admin_client.get(admin_url(NwcPayment, "change", payment.pk))

    text = page.content.decode()
    assert "The wallet&#x27;s own words" in text
    assert "“&lt;b&gt;Call us&lt;/b&gt; at evil.example”" in text
    assert "<b>Call us" not in text


def test_rows_cannot_be_edited_or_deleted(admin_client, payment):
    for row in (payment, payment.invoice):
        delete = admin_url(type(row), "delete", row.pk)
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
        change = admin_url(type(row), "change", row.pk)
        assert admin_client.post(change, {"state": "paid"}).status_code == 403
    payment.refresh_from_db()
    assert payment.state == "pending"


def test_actions_enqueue_polling_and_payment(
    admin_client, payment, django_capture_on_commit_callbacks
):
    with (
        patch.object(check_payment_hashes, "apply_async") as poll,
        patch.object(run_nwc_payment, "apply_async") as run,
        django_capture_on_commit_callbacks(execute=True),
    ):
        run_action(admin_client, payment.invoice, "poll_now")
        run_action(admin_client, payment, "resume")

    poll.assert_called_once_with(([payment.invoice.payment_hash],), {})
    run.assert_called_once_with((payment.pk,), {})


def test_lists_take_a_constant_number_of_queries(admin_client, own_wallet, alice):
    tenants = [tenant_with(alice) for _ in range(3)]
    counts = []
    for tenant in tenants:
        invoice = make_invoice(tenant, own_wallet.pubkey)
        NwcPayment.objects.create(
            invoice=invoice,
            tenant=tenant,
            stripe_invoice_id=invoice.stripe_invoice_id,
            wallet_pubkey=alice.pubkey,
            client_pubkey="",
        )
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(admin_url(LightningInvoice, "changelist"))
            admin_client.get(admin_url(NwcPayment, "changelist"))
        counts.append(len(captured.captured_queries))

    assert counts[1] == counts[2]


# --- decisions of support


@pytest.fixture
def undecided(payment, monkeypatch):
    """A payment that its wallet has proven, while ours denies it."""
    answer_lookups(monkeypatch, UNPAID)
    run_payment(payment_id=payment.pk)
    LightningInvoice.objects.update(
        expires_at=timezone.now() - timedelta(days=1), contradicted_at=timezone.now()
    )
    payment.refresh_from_db()
    return payment


DECISION = {
    "outcome": "dead",
    "reason": "The hub shows no payment.",
    "evidence": "Ticket 4711",
}


def resolve_url(payment):
    return admin_url(LightningInvoice, "resolve", payment.invoice_id)


def test_decision_is_made_with_both_answers_in_view(admin_client, undecided):
    form = admin_client.get(resolve_url(undecided)).content.decode()
    assert UNPAID.answer in form
    assert "preimage returned at" in form
    assert undecided.preimage.reveal() not in form

    answer = admin_client.post(resolve_url(undecided), DECISION)

    assert answer.status_code == 302
    undecided.refresh_from_db()
    assert undecided.state == NwcPayment.State.FAILED
    assert Resolution.objects.get().actor == "admin"


def test_decision_is_shown_on_the_pages_of_invoice_and_payment(admin_client, undecided):
    admin_client.post(resolve_url(undecided), DECISION)

    for row in (undecided, undecided.invoice):
        page = admin_client.get(admin_url(type(row), "change", row.pk)).content.decode()
        assert DECISION["reason"] in page
        assert UNPAID.answer in page
        assert "preimage returned at" in page
        assert undecided.preimage.reveal() not in page


def test_no_outcome_is_chosen_before_the_person_chooses(admin_client, undecided):
    page = admin_client.get(resolve_url(undecided))

    options = page.context["form"]["outcome"].subwidgets
    # A browser preselects the first one.
    assert options[0].data["value"] == ""
    assert [option.data["value"] for option in options[1:]] == ["settled", "dead"]


@pytest.mark.parametrize("missing", ["outcome", "reason", "evidence"])
def test_incomplete_decision_is_shown_again(admin_client, undecided, missing):
    answer = admin_client.post(resolve_url(undecided), {**DECISION, missing: " "})

    assert answer.status_code == 200
    assert not Resolution.objects.exists()


def test_impossible_decision_is_explained(admin_client, payment):
    payment_url = resolve_url(payment)

    answer = admin_client.post(payment_url, DECISION)

    assert answer.status_code == 200
    assert "may still be paid until" in answer.content.decode()
    assert not Resolution.objects.exists()


def test_decision_needs_the_permission_to_operate(client, undecided):
    viewer = User.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.set(
        Permission.objects.filter(codename="view_lightninginvoice")
    )
    client.force_login(viewer)
    page = admin_url(LightningInvoice, "change", undecided.invoice_id)
    assert resolve_url(undecided) not in client.get(page).content.decode()

    assert client.post(resolve_url(undecided), DECISION).status_code == 403
    assert not Resolution.objects.exists()

    viewer.user_permissions.add(
        Permission.objects.get(codename="change_lightninginvoice")
    )
    assert resolve_url(undecided) in client.get(page).content.decode()
    assert client.post(resolve_url(undecided), DECISION).status_code == 302


def test_undecided_invoices_can_be_listed(admin_client, undecided, alice, own_wallet):
    make_invoice(undecided.tenant, own_wallet.pubkey)
    url = admin_url(LightningInvoice, "changelist")

    page = admin_client.get(url, {"contradicted_at__isempty": "0"})

    assert [row.pk for row in page.context["cl"].queryset] == [undecided.invoice_id]
