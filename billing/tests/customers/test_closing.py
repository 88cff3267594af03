"""Closing accounts: a tenant is never deleted, and its debts are still collected."""

import pytest
from django.utils import timezone

from billing.services.collection.collect import collect_invoice
from billing.services.customers.closing import close_tenant, reopen_tenant
from billing.services.dunning.suspension import review_tenant, tenants_to_review
from billing.services.subscriptions.sync import sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.factories import InvoiceCollectionFactory
from lightning.tests.factories import make_payment_request, tenant_with
from lightning.tests.support.payments import run_payment, start_payment
from relays.exceptions import PaymentOverdue
from relays.models import Plan
from relays.services import lifecycle
from relays.tests.factories import RelayFactory
from tenants.exceptions import TenantClosed
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def has_wallet(tenant) -> bool:
    return bool(Tenant.objects.get(pk=tenant.pk).nwc_url)


def review(tenant) -> None:
    """Review the tenant as the scheduled task does, which finds unused wallets."""
    before = has_wallet(tenant)
    was_found = tenant.pk in tenants_to_review(timezone.now())
    review_tenant(tenant_id=tenant.pk)
    assert was_found or before == has_wallet(tenant)
    assert tenant.pk not in tenants_to_review(timezone.now())


def sync(tenant):
    mark_stale(tenant_id=tenant.pk)
    sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()


def test_closing_deactivates_all_relays_for_good():
    tenant = TenantFactory()
    for plan, status in [
        ("free", "active"),
        ("basic", "active"),
        ("basic", "delinquent"),
        ("growth", "inactive"),
    ]:
        RelayFactory(tenant=tenant, plan=Plan.objects.get(pk=plan), status=status)

    assert close_tenant(tenant_id=tenant.pk)

    assert {relay.status for relay in tenant.relays.all()} == {"inactive"}
    for relay in tenant.relays.all():
        with pytest.raises(TenantClosed):
            lifecycle.activate_relay(relay_id=relay.pk)
    with pytest.raises(TenantClosed):
        lifecycle.create_relay(tenant_id=tenant.pk, subdomain="new", plan_id="free")


def test_closing_twice_closes_once():
    tenant = TenantFactory()

    assert close_tenant(tenant_id=tenant.pk)
    closed_at = Tenant.objects.get().closed_at
    assert not close_tenant(tenant_id=tenant.pk)

    assert Tenant.objects.get().closed_at == closed_at
    assert Activity.objects.filter(type="close_tenant").count() == 1


@pytest.mark.usefixtures("priced_plans")
def test_reopened_tenant_can_activate_its_inactive_relays():
    relay = RelayFactory()
    tenant = relay.tenant
    assert not reopen_tenant(tenant_id=tenant.pk)
    close_tenant(tenant_id=tenant.pk)

    assert reopen_tenant(tenant_id=tenant.pk)

    relay.refresh_from_db()
    assert relay.status == "inactive"
    assert lifecycle.activate_relay(relay_id=relay.pk).status == "active"
    assert Activity.objects.filter(type="reopen_tenant").count() == 1


def test_wallet_is_erased_at_once_when_nothing_is_owed(own_wallet, alice):
    tenant = tenant_with(alice)

    close_tenant(tenant_id=tenant.pk)

    assert not has_wallet(tenant)


def test_wallet_is_erased_when_the_last_invoice_is_paid(
    sandbox, clock, prices, own_wallet, rates, alice
):
    tenant = tenant_with(alice)
    RelayFactory(tenant=tenant)
    sync(tenant)
    (first,) = tenant.collections.all()
    clock.move(days=10)

    close_tenant(tenant_id=tenant.pk)
    assert has_wallet(tenant)
    sync(tenant)
    assert subscription_statuses(sandbox) == ["canceled"]
    review(tenant)
    assert has_wallet(tenant)

    collect_invoice(invoice_id=first.pk)
    payment = tenant.nwc_payments.get()
    review(tenant)
    assert has_wallet(tenant)
    run_payment(payment_id=payment.pk)
    collect_invoice(invoice_id=first.pk)

    first.refresh_from_db()
    assert first.stripe_status == "paid"
    review(tenant)
    assert not has_wallet(tenant)


def subscription_statuses(sandbox):
    listed = sandbox.client().v1.subscriptions.list({"status": "all"}).data
    return [subscription.status for subscription in listed]


def test_wallet_is_kept_during_a_pending_payment(own_wallet, rates, alice):
    tenant = tenant_with(alice)
    payment = start_payment(make_payment_request(tenant))

    close_tenant(tenant_id=tenant.pk)
    review(tenant)
    assert has_wallet(tenant)

    run_payment(payment_id=payment.pk)
    review(tenant)
    assert not has_wallet(tenant)


def test_wallet_of_an_open_tenant_is_kept(own_wallet, alice):
    tenant = tenant_with(alice)

    review(tenant)

    assert has_wallet(tenant)


def test_reopened_tenant_with_debt_must_pay_first():
    tenant = TenantFactory()
    relay = RelayFactory(tenant=tenant)
    InvoiceCollectionFactory(tenant=tenant)
    close_tenant(tenant_id=tenant.pk)
    review(tenant)

    reopen_tenant(tenant_id=tenant.pk)

    with pytest.raises(PaymentOverdue):
        lifecycle.activate_relay(relay_id=relay.pk)
