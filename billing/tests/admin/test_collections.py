"""Admin pages and actions for invoices, attempts, settlements and accounts."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.utils import timezone

from billing.models import (
    CardAttempt,
    InvoiceCollection,
    Settlement,
    StripeEvent,
    SubscriptionSync,
)
from billing.services.sync.queue import mark_stale
from billing.tests.factories import InvoiceCollectionFactory, StripeEventFactory
from billing.tests.support.admin import admin_url, message_texts, run_action
from lightning.models import LightningInvoice
from lightning.tests.factories import make_invoice
from relays.tests.factories import RelayFactory
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

MODELS = (InvoiceCollection, CardAttempt, Settlement)


@pytest.fixture
def invoice():
    tenant = TenantFactory(stripe_subscription_id="sub_1", display_name="Alice")
    return InvoiceCollectionFactory(tenant=tenant)


def rows_for(invoice) -> dict[Any, Any]:
    attempt = CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key=f"key {invoice.pk}",
    )
    paid = make_invoice(invoice.tenant, "ab" * 32, stripe_invoice_id=invoice.pk)
    settlement = Settlement.objects.create(
        invoice=paid, collection=invoice, state="marking"
    )
    return {
        InvoiceCollection: invoice,
        CardAttempt: attempt,
        Settlement: settlement,
        Tenant: invoice.tenant,
    }


def test_pages_open_and_search_by_pubkey_finds_one_row(admin_client, invoice):
    for model, row in rows_for(invoice).items():
        changelist = admin_client.get(
            f"{admin_url(model, 'changelist')}?q={invoice.tenant_id}"
        )
        assert changelist.status_code == 200
        assert "1 " in changelist.content.decode()
        detail = admin_client.get(admin_url(model, "change", quote(row.pk)))
        assert detail.status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_money_rows_are_read_only(admin_client, model):
    request = admin_client.get("/admin/").wsgi_request
    model_admin = admin.site._registry[model]

    assert not model_admin.has_add_permission(request)
    assert not model_admin.has_change_permission(request)
    assert not model_admin.has_delete_permission(request)


def test_lists_need_a_constant_number_of_queries(
    admin_client, django_assert_max_num_queries
):
    for _ in range(5):
        rows_for(InvoiceCollectionFactory())

    for model in (*MODELS, Tenant):
        with django_assert_max_num_queries(9):
            assert admin_client.get(admin_url(model, "changelist")).status_code == 200


def test_held_invoices_are_listed_with_the_reason(admin_client, invoice):
    held = InvoiceCollectionFactory(
        tenant=invoice.tenant,
        stripe_status="draft",
        state="draft",
        hold="refused",
        finalization_error="customer_tax_location_invalid",
        finalization_refused_at=timezone.now(),
    )

    url = admin_url(InvoiceCollection, "changelist")
    page = admin_client.get(url, {"hold__exact": "refused"})
    details = admin_client.get(admin_url(InvoiceCollection, "change", quote(held.pk)))

    assert [row.pk for row in page.context["cl"].result_list] == [held.pk]
    assert "customer_tax_location_invalid" in details.content.decode()


def test_links_with_which_anyone_can_pay_are_on_no_page(admin_client, invoice):
    link = "https://invoice.stripe.com/i/acct_1/live_secret"
    InvoiceCollection.objects.update(hosted_invoice_url=link)
    event = StripeEventFactory(object={"hosted_invoice_url": link, "id": invoice.pk})

    for row in (invoice, event):
        page = admin_client.get(admin_url(type(row), "change", quote(row.pk)))
        assert invoice.pk in page.content.decode()
        assert "live_secret" not in page.content.decode()


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (InvoiceCollection, "hosted_invoice_url"),
        (StripeEvent, "body"),
        (Notice, "text"),
        (LightningInvoice, "preimage"),
    ],
)
@pytest.mark.parametrize("lookup", ["", "__startswith", "__regex"])
def test_list_cannot_be_filtered_by_what_is_on_no_page(
    admin_client, model, field, lookup
):
    url = admin_url(model, "changelist")

    assert admin_client.get(url, {f"{field}{lookup}": "a"}).status_code == 400


def test_event_is_shown_without_the_secrets_with_which_a_browser_pays(admin_client):
    event = StripeEventFactory(object={"client_secret": "pi_1_secret_abcdefgh"})

    page = admin_client.get(admin_url(StripeEvent, "change", quote(event.pk)))

    assert "client_secret" in page.content.decode()
    assert "abcdefgh" not in page.content.decode()


def test_pauses_are_listed_with_the_syncs(admin_client, invoice):
    mark_stale(tenant_id=invoice.tenant_id)
    columns = {"paused_at": timezone.now(), "collection_pause": "keep_as_draft"}
    SubscriptionSync.objects.update(**columns)

    page = admin_client.get(admin_url(SubscriptionSync, "changelist"))

    assert "keep_as_draft" in page.content.decode()


def test_collect_action_starts_an_attempt_or_rereads_the_invoice(admin_client, invoice):
    paid = InvoiceCollectionFactory(
        tenant=invoice.tenant,
        stripe_status="paid",
        amount_remaining_cents=0,
        state="closed",
    )

    response = run_action(admin_client, InvoiceCollection, "collect", invoice, paid)

    assert message_texts(response) == ["Collecting 1 invoice, refreshing 1 more."]
    invoice.refresh_from_db()
    paid.refresh_from_db()
    assert (invoice.next_action, paid.next_action) == ("wallet", "")
    assert invoice.enqueued_at and paid.enqueued_at


@pytest.mark.parametrize(
    ("action", "days"), [("three_days_more", 3), ("seven_days_more", 7)]
)
def test_grace_period_is_extended_for_open_invoices(
    admin_client, invoice, action, days
):
    paid = InvoiceCollectionFactory(
        tenant=invoice.tenant,
        stripe_status="paid",
        amount_remaining_cents=0,
        state="closed",
    )

    response = run_action(admin_client, InvoiceCollection, action, invoice, paid)

    assert message_texts(response) == [
        f"Extended the grace period of 1 invoice by {days} days."
    ]
    before = invoice.suspend_at
    invoice.refresh_from_db()
    assert invoice.suspend_at == before + timedelta(days=days)


def test_extension_beyond_the_limit_is_refused_with_what_to_do(admin_client, invoice):
    created_at = timezone.now() - timedelta(days=58)
    InvoiceCollection.objects.update(finalized_at=created_at, suspend_at=created_at)

    response = run_action(admin_client, InvoiceCollection, "three_days_more", invoice)

    refusal, summary = message_texts(response)
    assert "[grace-limit-exceeded]" in refusal
    assert "make the tenant exempt" in refusal
    assert "0 invoices" in summary


def test_ending_the_grace_period_suspends_the_relays(admin_client, invoice):
    relay = RelayFactory(tenant=invoice.tenant)

    run_action(admin_client, InvoiceCollection, "end_grace", invoice)

    relay.refresh_from_db()
    assert relay.status == "delinquent"


def test_end_grace_action_counts_only_invoices_in_grace(admin_client, invoice):
    InvoiceCollectionFactory(tenant=invoice.tenant, stripe_status="paid")

    for ended in ("1 invoice", "0 invoices"):
        url = admin_url(InvoiceCollection, "changelist")
        keys = list(InvoiceCollection.objects.values_list("pk", flat=True))
        form = {"action": "end_grace", ACTION_CHECKBOX_NAME: keys}
        response = admin_client.post(url, form, follow=True)
        assert f"Ended the grace period of {ended}." in response.content.decode()


def test_staff_with_view_permission_change_nothing(client, django_user_model, invoice):
    staff = django_user_model.objects.create_user("viewer", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(staff)

    for action in ("collect", "seven_days_more", "end_grace"):
        run_action(client, InvoiceCollection, action, invoice)
    run_action(client, Tenant, "close", invoice.tenant)

    before = InvoiceCollection.objects.values().get(pk=invoice.pk)
    assert before["suspend_at"] == invoice.suspend_at
    assert before["enqueued_at"] is None
    assert Tenant.objects.get().closed_at is None


def test_payment_page_is_linked_for_those_who_may_act(
    client, admin_client, django_user_model, invoice
):
    viewer = django_user_model.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    path = admin_url(InvoiceCollection, "change", quote(invoice.pk))

    shown, hidden = (each.get(path).content.decode() for each in (admin_client, client))

    (link,) = re.findall(r'href="http://[^/"]+(/pay/[^"]+)"', shown)
    assert admin_client.get(link).status_code == 200
    assert "/pay/" not in hidden


def test_tenant_pages_show_the_unpaid_amount(admin_client, invoice):
    RelayFactory.create_batch(3, tenant=invoice.tenant)
    InvoiceCollectionFactory(tenant=invoice.tenant, amount_remaining_cents=2_500)
    InvoiceCollectionFactory(tenant=invoice.tenant, stripe_status="void")
    TenantFactory()

    changelist = admin_client.get(admin_url(Tenant, "changelist")).content.decode()
    detail = admin_client.get(admin_url(Tenant, "change", invoice.tenant_id))

    assert changelist.count("$30.00") == 1
    assert "$30.00" in detail.content.decode()


def test_account_is_closed_and_reopened(admin_client, invoice):
    tenant = invoice.tenant
    relay = RelayFactory(tenant=tenant)

    response = run_action(admin_client, Tenant, "close", tenant)
    again = run_action(admin_client, Tenant, "close", tenant)

    assert message_texts(response) == ["Closed: 1 account."]
    assert message_texts(again) == ["Closed: 0 accounts."]
    relay.refresh_from_db()
    assert relay.status == "inactive"
    tenant.refresh_from_db()
    assert tenant.closed_at <= timezone.now()
    response = run_action(admin_client, Tenant, "reopen", tenant)
    assert message_texts(response) == ["Reopened: 1 account."]
