"""Ownership of subscriptions and invoices, whatever others do to their metadata."""

import pytest
from structlog.testing import capture_logs

from billing.models import InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.events.process import process_event
from billing.tests.factories import StripeEventFactory
from billing.tests.support.subscriptions import (
    add_relay,
    all_subscriptions,
    collect_invoices,
    create_subscription_at_stripe,
    pay_all_invoices,
    sync,
)
from relays.services import lifecycle
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(sandbox, prices, clock):
    """A tenant that has paid the first month of its relay."""
    tenant = TenantFactory()
    add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    collect_invoices(tenant)
    return tenant


def set_metadata(sandbox, subscription_id, **metadata):
    sandbox.client().v1.subscriptions.update(subscription_id, {"metadata": metadata})


def invoices_of(sandbox, subscription_id):
    listed = sandbox.client().v1.invoices.list({"subscription": subscription_id})
    return listed.data


def process(type, id, customer):
    event = StripeEventFactory(type=type, object={"id": id, "customer": customer})
    process_event(event_id=event.pk)
    return StripeEvent.objects.get(pk=event.pk).outcome


def process_invoices(sandbox, tenant, subscription_id):
    """Process the event of each invoice, as its webhook would be."""
    for invoice in invoices_of(sandbox, subscription_id):
        process("invoice.created", invoice.id, tenant.stripe_customer_id)


def alerts(logs):
    return [log["id"] for log in logs if log["event"] == "not_ours"]


@pytest.mark.parametrize("name", ["", "someone else"])
def test_renewals_are_collected_although_the_metadata_is_gone(
    sandbox, tenant, clock, name
):
    current = tenant.stripe_subscription_id
    set_metadata(sandbox, current, tenant_pubkey=name)
    clock.move(days=32)
    clock.move(days=31)

    process_invoices(sandbox, tenant, current)

    collect_invoices(tenant)
    unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant)
    assert [row.amount_remaining_cents for row in unpaid] == [500, 500]


def test_removed_metadata_makes_the_tenant_stale_and_is_repaired(sandbox, tenant):
    current = tenant.stripe_subscription_id
    set_metadata(sandbox, current, tenant_pubkey="")

    outcome = process(
        "customer.subscription.updated", current, tenant.stripe_customer_id
    )

    assert "sync enqueued" in outcome
    sync(tenant)
    (subscription,) = all_subscriptions(sandbox)
    assert subscription.metadata["tenant_pubkey"] == tenant.pk


def test_invoice_of_earlier_subscription_without_metadata_is_ours(sandbox, tenant):
    """A sync finds it after the subscription has ended."""
    first = tenant.stripe_subscription_id
    set_metadata(sandbox, first, tenant_pubkey="")
    for relay in tenant.relays.all():
        lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)
    InvoiceCollection.objects.filter(stripe_subscription_id=first).delete()

    process_invoices(sandbox, tenant, first)

    recorded = InvoiceCollection.objects.filter(stripe_subscription_id=first)
    assert recorded.count() == len(invoices_of(sandbox, first)) == 2


def test_duplicate_that_lost_its_name_is_still_cancelled_if_it_was_billed(
    sandbox, tenant, prices
):
    duplicate = create_subscription_at_stripe(sandbox, tenant, prices["basic"])
    process_invoices(sandbox, tenant, duplicate.id)
    set_metadata(sandbox, duplicate.id, tenant_pubkey="")

    sync(tenant)

    ended = [sub.id for sub in all_subscriptions(sandbox) if sub.status == "canceled"]
    assert ended == [duplicate.id]


def test_subscription_of_another_service_is_untouched_and_reported_once(
    sandbox, tenant, prices
):
    foreign = create_subscription_at_stripe(
        sandbox, tenant, prices["growth"], metadata={"service": "books"}
    )
    with capture_logs() as logs:
        process_invoices(sandbox, tenant, foreign.id)
        process_invoices(sandbox, tenant, foreign.id)
        sync(tenant)
        sync(tenant)

    assert alerts(logs) == [foreign.id]
    sync_row = SubscriptionSync.objects.get(pk=tenant.pk)
    assert sync_row.foreign_ids == [foreign.id]
    assert not InvoiceCollection.objects.filter(
        stripe_subscription_id=foreign.id
    ).exists()
    untouched = sandbox.client().v1.subscriptions.retrieve(foreign.id)
    assert (untouched.status, untouched.metadata.to_dict()) == (
        "active",
        {"service": "books"},
    )


def test_invoice_without_subscription_is_reported_once(sandbox, tenant):
    invoice = sandbox.client().v1.invoices.create(
        {"customer": tenant.stripe_customer_id}
    )
    with capture_logs() as logs:
        for _ in range(2):
            process("invoice.created", invoice.id, tenant.stripe_customer_id)

    assert alerts(logs) == [invoice.id]
    assert not InvoiceCollection.objects.filter(pk=invoice.id).exists()
