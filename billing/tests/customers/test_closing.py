"""A tenant is closed, never deleted; what it owes is still collected."""

import pytest
from django.utils import timezone

from billing.services.collection.collect import collect_invoice
from billing.services.customers.closing import close_tenant, reopen_tenant
from billing.services.dunning.review import review_tenant, tenants_to_review
from billing.services.subscriptions.sync import sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.factories import InvoiceCollectionFactory
from lightning.services.payments import run_payment, start_payment
from lightning.tests.factories import bill_for, tenant_with
from relays.exceptions import PaymentOverdue, TenantClosed
from relays.models import Plan
from relays.services import lifecycle
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def has_wallet(tenant) -> bool:
    return bool(Tenant.objects.get(pk=tenant.pk).nwc_url)


def review(tenant) -> None:
    """Review like the beat: whoever has an unused wallet is found."""
    before = has_wallet(tenant)
    found = tenant.pk in tenants_to_review(timezone.now())
    review_tenant(tenant_id=tenant.pk)
    assert found or before == has_wallet(tenant)
    assert tenant.pk not in tenants_to_review(timezone.now())


def sync(tenant):
    mark_stale(tenant_id=tenant.pk)
    sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()


def test_all_relays_go_off_and_stay_off():
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


def test_closed_twice_is_closed_once():
    tenant = TenantFactory()

    assert close_tenant(tenant_id=tenant.pk)
    closed_at = Tenant.objects.get().closed_at
    assert not close_tenant(tenant_id=tenant.pk)

    assert Tenant.objects.get().closed_at == closed_at
    assert Activity.objects.filter(type="close_tenant").count() == 1


def test_reopened_it_may_have_relays_again_and_those_it_had_stay_off():
    relay = RelayFactory()
    tenant = relay.tenant
    assert not reopen_tenant(tenant_id=tenant.pk)
    close_tenant(tenant_id=tenant.pk)

    assert reopen_tenant(tenant_id=tenant.pk)

    relay.refresh_from_db()
    assert relay.status == "inactive"
    assert lifecycle.activate_relay(relay_id=relay.pk).status == "active"
    assert Activity.objects.filter(type="reopen_tenant").count() == 1


def test_with_nothing_to_pay_the_wallet_is_forgotten_at_once(own_wallet, alice):
    tenant = tenant_with(alice)

    close_tenant(tenant_id=tenant.pk)

    assert not has_wallet(tenant)


def test_the_subscription_ends_and_the_wallet_is_forgotten_when_all_is_paid(
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
    assert [s.status for s in subscriptions(sandbox)] == ["canceled"]
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


def subscriptions(sandbox):
    return sandbox.client().v1.subscriptions.list({"status": "all"}).data


def test_an_attempt_that_is_open_keeps_the_wallet(own_wallet, rates, alice):
    tenant = tenant_with(alice)
    payment = start_payment(bill=bill_for(tenant))

    close_tenant(tenant_id=tenant.pk)
    review(tenant)
    assert has_wallet(tenant)

    run_payment(payment_id=payment.pk)
    review(tenant)
    assert not has_wallet(tenant)


def test_an_open_tenant_keeps_its_wallet(own_wallet, alice):
    tenant = tenant_with(alice)

    review(tenant)

    assert has_wallet(tenant)


def test_a_closed_tenant_that_owes_is_in_debt_when_it_comes_back():
    tenant = TenantFactory()
    relay = RelayFactory(tenant=tenant)
    InvoiceCollectionFactory(tenant=tenant)
    close_tenant(tenant_id=tenant.pk)
    review(tenant)

    reopen_tenant(tenant_id=tenant.pk)

    with pytest.raises(PaymentOverdue):
        lifecycle.activate_relay(relay_id=relay.pk)
