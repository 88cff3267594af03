"""What support staff see of invoices and debts, and what they can do about them."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from billing.models import CardAttempt, InvoiceCollection, Settlement
from billing.tests.admin.test_admin import act, texts
from billing.tests.factories import InvoiceCollectionFactory
from lightning.tests.factories import make_invoice
from relays.tests.factories import RelayFactory
from tenants.models import Tenant
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


def page(model, name, *args):
    info = model._meta.app_label, model._meta.model_name
    return reverse("admin:{}_{}_{}".format(*info, name), args=args)


def test_the_pages_open_and_find(admin_client, invoice):
    for model, row in rows_for(invoice).items():
        listed = admin_client.get(f"{page(model, 'changelist')}?q={invoice.tenant_id}")
        assert listed.status_code == 200
        assert "1 " in listed.content.decode()
        shown = admin_client.get(page(model, "change", quote(row.pk)))
        assert shown.status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_nobody_writes_money_rows(admin_client, model):
    request = admin_client.get("/admin/").wsgi_request
    model_admin = admin.site._registry[model]

    assert not model_admin.has_add_permission(request)
    assert not model_admin.has_change_permission(request)
    assert not model_admin.has_delete_permission(request)


def test_lists_cost_a_constant_number_of_queries(
    admin_client, django_assert_max_num_queries
):
    for _ in range(5):
        rows_for(InvoiceCollectionFactory())

    for model in (*MODELS, Tenant):
        with django_assert_max_num_queries(9):
            assert admin_client.get(page(model, "changelist")).status_code == 200


def test_collect_now_begins_a_rung_or_looks_again(admin_client, invoice):
    paid = InvoiceCollectionFactory(
        tenant=invoice.tenant,
        stripe_status="paid",
        amount_remaining_cents=0,
        state="closed",
    )

    answer = act(admin_client, InvoiceCollection, "collect", invoice, paid)

    assert texts(answer) == ["Collecting 1 invoices, refreshing 1 others."]
    invoice.refresh_from_db()
    paid.refresh_from_db()
    assert (invoice.next_action, paid.next_action) == ("wallet", "")
    assert invoice.enqueued_at and paid.enqueued_at


@pytest.mark.parametrize(
    ("action", "days"), [("three_days_more", 3), ("seven_days_more", 7)]
)
def test_more_time(admin_client, invoice, action, days):
    paid = InvoiceCollectionFactory(
        tenant=invoice.tenant,
        stripe_status="paid",
        amount_remaining_cents=0,
        state="closed",
    )

    answer = act(admin_client, InvoiceCollection, action, invoice, paid)

    assert texts(answer) == [f"Extended the grace period of 1 invoices by {days} days."]
    before = invoice.suspend_at
    invoice.refresh_from_db()
    assert invoice.suspend_at == before + timedelta(days=days)


def test_the_end_of_the_grace_suspends(admin_client, invoice):
    relay = RelayFactory(tenant=invoice.tenant)

    act(admin_client, InvoiceCollection, "end_grace", invoice)

    relay.refresh_from_db()
    assert relay.status == "delinquent"


def test_only_a_grace_that_was_there_is_said_to_have_ended(admin_client, invoice):
    InvoiceCollectionFactory(tenant=invoice.tenant, stripe_status="paid")

    for ended in (1, 0):
        url = page(InvoiceCollection, "changelist")
        keys = list(InvoiceCollection.objects.values_list("pk", flat=True))
        form = {"action": "end_grace", ACTION_CHECKBOX_NAME: keys}
        answer = admin_client.post(url, form, follow=True)
        assert f"Ended the grace period of {ended} invoices." in answer.content.decode()


def test_staff_who_may_only_look_change_nothing(client, django_user_model, invoice):
    staff = django_user_model.objects.create_user("viewer", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(staff)

    for action in ("collect", "seven_days_more", "end_grace"):
        act(client, InvoiceCollection, action, invoice)
    act(client, Tenant, "close", invoice.tenant)

    before = InvoiceCollection.objects.values().get(pk=invoice.pk)
    assert before["suspend_at"] == invoice.suspend_at
    assert before["enqueued_at"] is None
    assert Tenant.objects.get().closed_at is None


def test_a_tenant_shows_what_is_unpaid(admin_client, invoice):
    RelayFactory.create_batch(3, tenant=invoice.tenant)
    InvoiceCollectionFactory(tenant=invoice.tenant, amount_remaining_cents=2_500)
    InvoiceCollectionFactory(tenant=invoice.tenant, stripe_status="void")
    TenantFactory()

    listed = admin_client.get(page(Tenant, "changelist")).content.decode()
    shown = admin_client.get(page(Tenant, "change", invoice.tenant_id))

    assert listed.count("$30.00") == 1
    assert "$30.00" in shown.content.decode()


def test_an_account_is_closed_and_opened_again(admin_client, invoice):
    tenant = invoice.tenant
    relay = RelayFactory(tenant=tenant)

    answer = act(admin_client, Tenant, "close", tenant)
    again = act(admin_client, Tenant, "close", tenant)

    assert texts(answer) == ["Closed: 1 accounts."]
    assert texts(again) == ["Closed: 0 accounts."]
    relay.refresh_from_db()
    assert relay.status == "inactive"
    tenant.refresh_from_db()
    assert tenant.closed_at <= timezone.now()
    answer = act(admin_client, Tenant, "reopen", tenant)
    assert texts(answer) == ["Reopened: 1 accounts."]
