"""Support staff see how a payment stands and may ask again; secrets they see not."""

from unittest.mock import patch

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from lightning.models import LightningInvoice, NwcPayment
from lightning.services import payments
from lightning.tasks import check_payment_hashes, run_nwc_payment
from lightning.tests.factories import bill_for, make_invoice, tenant_with
from sandbox.wallets import secrets

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("platform", "prices")]


@pytest.fixture
def payment(alice):
    return payments.start_payment(bill=bill_for(tenant_with(alice)))


def page(model, name, *args):
    return reverse(f"admin:lightning_{model._meta.model_name}_{name}", args=args)


def act(client, row, action):
    data = {"action": action, "_selected_action": [row.pk]}
    return client.post(page(type(row), "changelist"), data, follow=True)


def test_pages_open_and_show_no_secret(admin_client, payment):
    payments.run_payment(payment_id=payment.pk)
    preimage = payment.invoice
    preimage.refresh_from_db()

    for row in (payment, payment.invoice):
        for url in (
            page(type(row), "changelist"),
            page(type(row), "change", row.pk),
            f"{page(type(row), 'changelist')}?q={payment.invoice.payment_hash}",
        ):
            answer = admin_client.get(url)
            assert answer.status_code == 200
            text = answer.content.decode()
            assert not [secret for secret in secrets.tracked if secret in text]
            assert preimage.preimage.reveal() not in text
            assert preimage.preimage.token not in text


def test_nobody_edits_or_deletes(admin_client, payment):
    for row in (payment, payment.invoice):
        delete = page(type(row), "delete", row.pk)
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
        change = page(type(row), "change", row.pk)
        assert admin_client.post(change, {"state": "paid"}).status_code == 403
    payment.refresh_from_db()
    assert payment.state == "pending"


def test_asking_our_wallet_now(
    admin_client, payment, django_capture_on_commit_callbacks
):
    with (
        patch.object(check_payment_hashes, "apply_async") as ask,
        patch.object(run_nwc_payment, "apply_async") as run,
        django_capture_on_commit_callbacks(execute=True),
    ):
        act(admin_client, payment.invoice, "ask_now")
        act(admin_client, payment, "go_on")

    ask.assert_called_once_with(([payment.invoice.payment_hash],), {})
    run.assert_called_once_with((payment.pk,), {})


def test_the_lists_cost_the_same_however_long(admin_client, platform, alice):
    tenants = [tenant_with(alice) for _ in range(3)]
    counts = []
    for tenant in tenants:
        invoice = make_invoice(tenant, platform.pubkey)
        NwcPayment.objects.create(
            invoice=invoice,
            tenant=tenant,
            stripe_invoice_id=invoice.stripe_invoice_id,
            wallet_pubkey=alice.pubkey,
            client_pubkey="",
        )
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(page(LightningInvoice, "changelist"))
            admin_client.get(page(NwcPayment, "changelist"))
        counts.append(len(captured.captured_queries))

    assert counts[1] == counts[2]
