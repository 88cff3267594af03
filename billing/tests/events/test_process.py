from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.models import StripeEvent, StripeWrite, SubscriptionSync
from billing.services.events.process import (
    HANDLERS,
    MAX_FAILURES,
    process_event,
    requeue_event,
)
from billing.services.subscriptions import ended
from billing.services.subscriptions.sync import sync_tenant
from billing.tasks import process_due_events
from billing.tests.factories import StripeEventFactory
from billing.tests.support.threads import in_threads
from relays.services.lifecycle import activate_relay
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def relay(sandbox, prices):
    """A paid relay whose tenant is in sync with Stripe."""
    relay = RelayFactory()
    sync_tenant(tenant_id=relay.tenant_id)
    relay.tenant.refresh_from_db()
    SubscriptionSync.objects.update(enqueued_at=None)
    return relay


def event_on(tenant, subscription_id=None, type="customer.subscription.updated"):
    return StripeEventFactory(
        type=type,
        object={
            "id": subscription_id or tenant.stripe_subscription_id,
            "object": "subscription",
            "customer": tenant.stripe_customer_id,
        },
    )


def process(event):
    process_event(event_id=event.pk)
    event.refresh_from_db()
    return event


def is_stale(tenant):
    return SubscriptionSync.objects.get(pk=tenant.pk).is_stale


# --- handlers


def test_update_that_matches_the_relays_changes_nothing(relay):
    event = process(event_on(relay.tenant))

    assert (event.status, event.outcome) == ("processed", "matches the relays")
    assert event.tenant == relay.tenant
    assert not is_stale(relay.tenant)


def test_quantity_changed_at_stripe_is_corrected(sandbox, relay):
    subscription_id = relay.tenant.stripe_subscription_id
    client = sandbox.client()
    (item,) = client.v1.subscriptions.retrieve(subscription_id).items.data
    change = {"id": item.id, "quantity": 9}
    client.v1.subscriptions.update(subscription_id, {"items": [change]})

    process(event_on(relay.tenant))
    assert is_stale(relay.tenant)
    sync_tenant(tenant_id=relay.tenant_id)

    (item,) = client.v1.subscriptions.retrieve(subscription_id).items.data
    assert item.quantity == 1


def test_cancellation_by_a_person_deactivates_paid_relays(sandbox, relay):
    tenant = relay.tenant
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    event = process(event_on(tenant, type="customer.subscription.deleted"))

    relay.refresh_from_db()
    tenant.refresh_from_db()
    assert event.outcome == "cancelled by a person: paid relays made inactive"
    assert relay.status == "inactive"
    assert tenant.stripe_subscription_id is None


def test_cancellation_by_caravel_deactivates_no_relay(sandbox, relay):
    tenant = relay.tenant
    StripeWrite.objects.create(
        tenant=tenant,
        kind=StripeWrite.Kind.CANCEL_SUBSCRIPTION,
        subject=tenant.stripe_subscription_id,
        generation=1,
        idempotency_key="k",
        params={"prorate": False, "invoice_now": False},
    )
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    process(event_on(tenant, type="customer.subscription.deleted"))

    relay.refresh_from_db()
    assert relay.status == "active"
    assert is_stale(tenant)


@pytest.mark.parametrize("type", ["updated", "deleted"])
def test_event_on_an_old_subscription_never_touches_the_current_one(
    sandbox, relay, type
):
    before = relay.tenant.stripe_subscription_id
    request_count = len(sandbox.requests())
    old = event_on(relay.tenant, "sub_old", f"customer.subscription.{type}")

    event = process(old)

    relay.tenant.refresh_from_db()
    relay.refresh_from_db()
    assert event.outcome == "not the current subscription: nothing changed"
    assert relay.tenant.stripe_subscription_id == before
    assert relay.status == "active"
    assert not is_stale(relay.tenant)
    assert len(sandbox.requests()) == request_count


def test_retrieved_subscription_decides_instead_of_the_payload(relay):
    """A late `deleted` event about an active subscription does not end it."""
    event = process(event_on(relay.tenant, type="customer.subscription.deleted"))

    relay.tenant.refresh_from_db()
    assert event.status == "processed"
    assert relay.tenant.stripe_subscription_id


def test_deleted_customer_is_not_a_cancelled_subscription(sandbox, relay):
    tenant = relay.tenant
    sandbox.client().v1.customers.delete(tenant.stripe_customer_id)

    process(event_on(tenant, type="customer.subscription.deleted"))

    relay.refresh_from_db()
    tenant.refresh_from_db()
    assert relay.status == "active"
    assert tenant.stripe_customer_id is None
    assert is_stale(tenant)


def test_event_without_a_handler_is_processed_at_once(sandbox):
    event = process(StripeEventFactory(type="product.created"))

    assert event.status == "processed"
    assert sandbox.requests() == []


# --- exactly once


def test_processing_twice_has_its_effect_once(sandbox, relay):
    sandbox.client().v1.subscriptions.cancel(relay.tenant.stripe_subscription_id)
    event = event_on(relay.tenant, type="customer.subscription.deleted")

    process(event)
    again = process(event)

    assert again.status == "processed"
    assert Activity.objects.filter(type="deactivate_relay").count() == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_ten_concurrent_workers_apply_the_effect_once(sandbox, relay):
    sandbox.client().v1.subscriptions.cancel(relay.tenant.stripe_subscription_id)
    event = event_on(relay.tenant, type="customer.subscription.deleted")

    assert in_threads(10, lambda: process_event(event_id=event.pk)) == []

    event.refresh_from_db()
    assert event.status == "processed"
    assert Activity.objects.filter(type="deactivate_relay").count() == 1


def test_effect_that_fails_is_rolled_back_whole(sandbox, relay, monkeypatch):
    sandbox.client().v1.subscriptions.cancel(relay.tenant.stripe_subscription_id)
    event = event_on(relay.tenant, type="customer.subscription.deleted")
    monkeypatch.setattr(ended, "deactivate_relay", lambda **kwargs: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        process_event(event_id=event.pk)

    event.refresh_from_db()
    relay.tenant.refresh_from_db()
    assert (event.status, event.failures) == ("received", 1)
    assert relay.tenant.stripe_subscription_id

    monkeypatch.undo()
    assert process(event).status == "processed"


# --- failures


def test_outage_of_stripe_is_recorded_and_tried_again_later(relay, settings):
    reachable = settings.STRIPE_API_BASE
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"
    event = process(event_on(relay.tenant))
    assert (event.status, event.failures) == ("received", 1)
    assert event.last_error_code == "stripe-unavailable"
    settings.STRIPE_API_BASE = reachable

    process_due_events()
    event.refresh_from_db()
    assert event.status == "received"
    with time_machine.travel(timezone.now() + timedelta(seconds=16)):
        process_due_events()

    event.refresh_from_db()
    assert (event.status, event.last_error) == ("processed", "")


def test_event_is_not_given_up_while_stripe_is_unavailable(relay, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"
    event = event_on(relay.tenant)
    StripeEvent.objects.filter(pk=event.pk).update(failures=MAX_FAILURES)

    assert process(event).status == "received"


def test_event_that_keeps_failing_is_marked_failed(sandbox, relay, caplog):
    sandbox.fault("status", method="GET", status=400, times=None)
    event = event_on(relay.tenant)
    StripeEvent.objects.filter(pk=event.pk).update(failures=MAX_FAILURES - 1)

    process(event)

    assert event.status == "failed"
    assert StripeEvent.objects.received().count() == 0
    assert "event_failed" in caplog.text


@pytest.mark.parametrize("status", ["received", "processed", "failed", "parked"])
def test_event_in_any_state_can_be_processed_again(relay, status):
    event = process(event_on(relay.tenant))
    if status != "processed":
        StripeEvent.objects.update(status=status, processed_at=None, failures=25)

    assert requeue_event(event_id=event.pk)
    again = process(event)

    assert (again.status, again.failures) == ("processed", 0)
    assert again.outcome == "matches the relays"


def test_unknown_event_cannot_be_processed_again():
    assert not requeue_event(event_id="evt_unknown")


def test_cancellation_that_is_processed_again_deactivates_no_relay_again(
    sandbox, relay
):
    sandbox.client().v1.subscriptions.cancel(relay.tenant.stripe_subscription_id)
    event = process(event_on(relay.tenant, type="customer.subscription.deleted"))
    activate_relay(relay_id=relay.pk)
    sync_tenant(tenant_id=relay.tenant_id)

    requeue_event(event_id=event.pk)
    again = process(event)

    relay.refresh_from_db()
    assert again.outcome == "not the current subscription: nothing changed"
    assert relay.status == "active"


def test_deleted_customer_that_is_processed_again_still_belongs_to_its_tenant(
    sandbox, relay
):
    """The tenant has another customer by then."""
    customer = relay.tenant.stripe_customer_id
    sandbox.client().v1.customers.delete(customer)
    event = process(
        StripeEventFactory(
            type="customer.deleted", object={"id": customer, "object": "customer"}
        )
    )

    requeue_event(event_id=event.pk)
    again = process(event)

    assert (again.status, again.tenant) == ("processed", relay.tenant)
    assert again.outcome == "no tenant has this customer any more"


# --- unknown customers


def event_of_customer(customer_id):
    return StripeEventFactory(
        object={"id": "sub_x", "object": "subscription", "customer": customer_id}
    )


def after_an_hour():
    return time_machine.travel(timezone.now() + timedelta(minutes=61))


def test_event_waits_an_hour_for_an_unknown_customer(sandbox, relay):
    customer = relay.tenant.stripe_customer_id
    Tenant.objects.filter(pk=relay.tenant_id).update(stripe_customer_id=None)
    event = process(event_on(relay.tenant))
    assert (event.status, event.last_error_code) == ("received", "customer-unknown")

    Tenant.objects.filter(pk=relay.tenant_id).update(stripe_customer_id=customer)

    assert process(event).status == "processed"


@pytest.mark.parametrize("metadata", [{}, {"tenant_pubkey": "ab" * 32}])
def test_after_an_hour_foreign_events_are_closed_and_tenants_events_parked(
    sandbox, metadata, caplog
):
    customer = sandbox.client().v1.customers.create({"metadata": metadata})
    event = event_of_customer(customer.id)

    with after_an_hour():
        process(event)

    assert event.status == ("parked" if metadata else "processed")
    assert ("event_parked" in caplog.text) == bool(metadata)


def test_after_an_hour_a_deleted_customer_is_foreign(sandbox):
    customers = sandbox.client().v1.customers
    customer = customers.create({"metadata": {"tenant_pubkey": "ab"}})
    customers.delete(customer.id)
    event = event_of_customer(customer.id)

    with after_an_hour():
        process(event)

    assert event.status == "processed"
    assert event.outcome == "not a customer of ours"


def test_event_of_a_customer_invisible_to_our_key_is_parked(sandbox):
    event = event_of_customer("cus_of_another_account")

    with after_an_hour():
        process(event)

    assert event.status == "parked"


def test_parked_event_is_processed_after_its_tenant_has_the_customer(sandbox, relay):
    event = event_on(relay.tenant)
    StripeEvent.objects.filter(pk=event.pk).update(status="parked")

    requeue_event(event_id=event.pk)

    assert process(event).status == "processed"


def test_detached_payment_method_is_routed_by_previous_attributes(monkeypatch):
    tenant = TenantFactory(stripe_customer_id="cus_1")
    monkeypatch.setitem(
        HANDLERS,
        "payment_method.detached",
        lambda stripe, event, tenant: lambda: str(tenant.pk),
    )

    event = process(
        StripeEventFactory(
            type="payment_method.detached",
            object={"id": "pm_1", "object": "payment_method", "customer": None},
            previous={"customer": "cus_1"},
        )
    )

    assert (event.tenant, event.outcome) == (tenant, tenant.pk)
