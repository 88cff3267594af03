"""An invoice of a second subscription is not charged before the sync has decided."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.events.process import process_event
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.tests.factories import StripeEventFactory
from billing.tests.support.subscriptions import (
    SUBSCRIPTIONS_PATH,
    add_relay,
    create_subscription_at_stripe,
    pay_all_invoices,
    sync,
)
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(sandbox, prices, clock):
    """A tenant with a card that has paid the first month."""
    tenant = TenantFactory()
    add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    api = sandbox.client().v1
    card = api.payment_methods.attach(
        "pm_card_visa", {"customer": tenant.stripe_customer_id}
    )
    api.customers.update(
        tenant.stripe_customer_id,
        {"invoice_settings": {"default_payment_method": card.id}},
    )
    for collection in tenant.collections.all():
        collect_invoice(invoice_id=collection.pk)
    return tenant


@pytest.fixture
def duplicate(sandbox, tenant, prices):
    """The copy of the subscription that staff made in the dashboard."""
    return create_subscription_at_stripe(sandbox, tenant, prices["basic"])


def process(type, object):
    event = StripeEventFactory(type=type, object=object)
    process_event(event_id=event.pk)
    return StripeEvent.objects.get(pk=event.pk).outcome


def receive_invoice(sandbox, duplicate):
    """Process the webhook of its invoice, and collect that."""
    (invoice,) = sandbox.client().v1.invoices.list({"subscription": duplicate.id}).data
    customer = {"id": invoice.id, "customer": duplicate.customer}
    process("invoice.created", customer)
    return InvoiceCollection.objects.get(pk=invoice.id)


def collect(collection):
    outcome = collect_invoice(invoice_id=collection.pk)
    collection.refresh_from_db()
    return outcome


def is_stale(tenant):
    return SubscriptionSync.objects.get(pk=tenant.pk).is_stale


def charges(sandbox):
    return sandbox.client().v1.charges.list({}).data


def test_duplicate_is_cancelled_before_its_invoice_is_charged(
    sandbox, tenant, duplicate
):
    collection = receive_invoice(sandbox, duplicate)

    outcome = collect(collection)

    assert outcome == "Waiting for the sync to keep or end the subscription"
    assert (collection.state, collection.stripe_status) == ("draft", "draft")
    assert is_stale(tenant)

    sync_tenant(tenant_id=tenant.pk)
    collect(collection)

    assert charges(sandbox) == []
    collection.refresh_from_db()
    assert collection.state == "closed"
    assert collection.amount_remaining_cents == 0


def test_open_invoice_of_duplicate_is_not_charged_either(sandbox, tenant, duplicate):
    collection = receive_invoice(sandbox, duplicate)
    sandbox.client().v1.invoices.finalize_invoice(collection.pk)

    collect(collection)

    assert (collection.state, collection.stripe_status) == ("collecting", "open")
    assert charges(sandbox) == []


def test_invoice_is_charged_once_its_subscription_is_adopted(
    sandbox, tenant, duplicate
):
    """The current subscription has ended without anybody noticing."""
    collection = receive_invoice(sandbox, duplicate)
    current = tenant.stripe_subscription_id
    collect(collection)
    Tenant.objects.filter(pk=tenant.pk).update(stripe_subscription_id=None)
    sandbox.client().v1.subscriptions.update(
        current, {"metadata": {"tenant_pubkey": ""}}
    )

    Tenant.objects.filter(pk=tenant.pk).update(stripe_subscription_id=duplicate.id)
    collect(collection)

    assert collection.state == "closed"
    assert [charge.amount for charge in charges(sandbox)] == [500]


def test_duplicate_that_a_person_cancels_first_is_credited_and_not_stuck(
    sandbox, tenant, duplicate
):
    collection = receive_invoice(sandbox, duplicate)
    collect(collection)
    sandbox.client().v1.subscriptions.cancel(duplicate.id)

    sync(tenant)
    collect(collection)

    assert collection.state == "closed"
    assert charges(sandbox) == []
    assert tenant.stripe_subscription_id != duplicate.id


def test_waiting_invoice_does_not_hurry_a_sync_that_fails(sandbox, tenant, duplicate):
    collection = receive_invoice(sandbox, duplicate)
    sandbox.fault("status", method="GET", path=SUBSCRIPTIONS_PATH, times=None)
    sync(tenant, SyncOutcome.FAILED)
    before = SubscriptionSync.objects.get(pk=tenant.pk)

    collect(collection)

    after = SubscriptionSync.objects.get(pk=tenant.pk)
    assert after.next_attempt_at == before.next_attempt_at
    assert collection.next_attempt_at < timezone.now() + timedelta(minutes=2)


def test_event_of_second_subscription_enqueues_a_sync(sandbox, tenant, duplicate):
    def created(subscription_id):
        customer = tenant.stripe_customer_id
        return process(
            "customer.subscription.created",
            {"id": subscription_id, "customer": customer},
        )

    assert created(tenant.stripe_subscription_id) == "the current subscription"
    assert not is_stale(tenant)

    created(duplicate.id)

    assert is_stale(tenant)


def test_invoice_of_a_paused_duplicate_waits_without_a_sync_each_minute(
    sandbox, tenant, duplicate, clock
):
    """Staff have paused their mistake; its sent invoice stays open."""
    collection = receive_invoice(sandbox, duplicate)
    api = sandbox.client().v1
    api.invoices.finalize_invoice(collection.pk)
    changes = {"collection_method": "charge_automatically"}
    api.subscriptions.update(duplicate.id, changes)
    api.subscriptions.pause(duplicate.id)
    clock.move(minutes=2)
    sync(tenant)

    for _ in range(3):
        collect(collection)
        assert not is_stale(tenant)
        clock.move(minutes=2)

    assert collection.next_attempt_at > timezone.now() + timedelta(minutes=50)
    assert charges(sandbox) == []
    sandbox.client().v1.subscriptions.cancel(duplicate.id)
    sync(tenant)
    collect(collection)
    assert collection.state == "closed"
