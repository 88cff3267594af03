"""Drafts that a person holds or Stripe refuses, and invoices of a paused collection."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.collection.attempts import collect_now
from billing.services.dunning.suspension import review_tenant, tenants_to_review
from billing.services.invoice_views.invoices import get_invoice
from billing.services.payment_page.page import get_page
from billing.tests.support.collection import attach
from billing.tests.support.holds import (
    collect,
    pause_collection,
    process_events,
    record_newest,
)
from billing.tests.support.subscriptions import add_relay, sync
from relays.exceptions import BillingOnHold
from relays.models import Relay
from relays.services.lifecycle import create_relay
from tenants.models import Notice, Tenant

pytestmark = pytest.mark.django_db

Hold = InvoiceCollection.Hold
AT_ONCE, AFTER_AN_HOUR = "at_once", "after_an_hour"


@pytest.fixture
def payer(subscriber: Tenant, sandbox, clock) -> Tenant:
    """A tenant whose card has paid its first month."""
    attach(sandbox, subscriber)
    assert collect(record_newest(subscriber)).stripe_status == "paid"
    return subscriber


@pytest.fixture
def renew(payer, sandbox, clock):
    """Function that lets a month pass and returns the renewal's collection."""

    def renew(**more: float) -> InvoiceCollection:
        clock.move(**{"days": 31, **more})
        return record_newest(payer)

    return renew


def at_stripe(sandbox, collection) -> Any:
    return sandbox.client().v1.invoices.retrieve(collection.pk)


def change_at_stripe(sandbox, collection, **changes: Any) -> None:
    sandbox.client().v1.invoices.update(collection.pk, changes)


def refuse_finalization(sandbox, tenant, code="customer_tax_location_invalid") -> None:
    """Let Stripe refuse to finalize the tenant's drafts; "" ends it."""
    metadata = {"metadata": {"sandbox_finalization": code}}
    sandbox.client().v1.customers.update(tenant.stripe_customer_id, metadata)


def relay_status(tenant) -> str:
    return str(Relay.objects.get(tenant=tenant).status)


def notice_kinds(tenant) -> set[str]:
    return set(Notice.objects.filter(tenant=tenant).values_list("kind", flat=True))


# --- a pause of collection


@pytest.mark.parametrize("acts", [AT_ONCE, AFTER_AN_HOUR])
def test_invoice_that_stripe_wrote_off_in_a_pause_suspends_nobody(
    payer, renew, sandbox, clock, acts
):
    sandbox.settings(paused_invoices=acts)
    pause_collection(sandbox, payer, "mark_uncollectible")
    renewal = collect(renew())
    clock.move(days=8)
    renewal = collect(renewal)

    review_tenant(tenant_id=payer.pk)

    assert renewal.stripe_status == "uncollectible"
    assert relay_status(payer) == "active"
    assert payer.pk not in tenants_to_review(timezone.now())
    create_relay(tenant_id=payer.pk, subdomain="second", plan_id="basic")
    assert not renewal.card_attempts.exists()
    assert notice_kinds(payer) == set()
    assert (renewal.hold, renewal.is_unpaid) == (Hold.WRITTEN_OFF, False)


def test_write_off_in_a_pause_is_known_by_its_time_if_stripe_gives_no_reason(
    payer, renew, sandbox
):
    pause_collection(sandbox, payer, "mark_uncollectible")
    renewal = renew()

    def forget_reason(context: Any) -> None:
        with context.update("invoice", renewal.pk) as draft:
            del draft["status_details"]

    sandbox.app.transact(forget_reason)
    assert collect(renewal).hold == Hold.WRITTEN_OFF


def test_later_write_off_by_a_person_stays_a_debt(payer, renew, sandbox, clock):
    refuse_cards(sandbox, payer)
    renewal = collect(renew(hours=3))
    sandbox.client().v1.invoices.mark_uncollectible(renewal.pk)

    clock.move(days=8)
    renewal = collect(renewal)

    assert (renewal.hold, renewal.is_unpaid) == (Hold.NONE, True)
    assert relay_status(payer) == "delinquent"


def refuse_cards(sandbox, tenant) -> None:
    outcome = {"metadata": {"sandbox_outcome": "card_declined"}}
    sandbox.client().v1.customers.update(tenant.stripe_customer_id, outcome)


def test_page_of_an_invoice_written_off_in_a_pause_asks_for_nothing(
    payer, renew, sandbox
):
    pause_collection(sandbox, payer, "mark_uncollectible")
    renewal = collect(renew())

    page = get_page(renewal.pk)

    assert (page.state, page.is_payable) == ("void", False)
    details = get_invoice(renewal.pk).collection
    assert details and (details.payment_url, details.hold) == (None, "written_off")


@pytest.mark.parametrize("acts", [AT_ONCE, AFTER_AN_HOUR])
def test_void_invoices_of_a_pause_are_closed(payer, renew, sandbox, clock, acts):
    sandbox.settings(paused_invoices=acts)
    pause_collection(sandbox, payer, "void")

    renewal = collect(renew())
    clock.move(hours=2)
    renewal = collect(renewal)

    assert (renewal.stripe_status, renewal.state) == ("void", "closed")
    assert relay_status(payer) == "active"


def test_kept_draft_is_not_finalized_until_staff_release_it(
    payer, renew, sandbox, clock
):
    pause_collection(sandbox, payer, "keep_as_draft")
    renewal = renew()
    clock.move(hours=3)
    renewal = collect(renewal)
    assert at_stripe(sandbox, renewal).status == "draft"
    assert (renewal.state, renewal.hold) == ("draft", Hold.HELD)
    assert "held" in renewal.outcome

    pause_collection(sandbox, payer, "")
    clock.move(days=10)
    renewal = collect(renewal)
    assert at_stripe(sandbox, renewal).status == "draft"
    assert relay_status(payer) == "active"

    change_at_stripe(sandbox, renewal, auto_advance=True)
    clock.move(hours=1, minutes=1)
    renewal = collect(renewal)
    assert (renewal.stripe_status, renewal.paid_by) == ("paid", "card")
    assert renewal.hold == Hold.NONE


# --- a draft that staff hold or schedule


@pytest.fixture
def draft(subscriber, sandbox, clock) -> InvoiceCollection:
    """The draft of a renewal, a minute old."""
    attach(sandbox, subscriber)
    collect(record_newest(subscriber))
    # The subscription is up to an hour old already.
    start = sandbox.client().v1.subscriptions.retrieve(
        subscriber.stripe_subscription_id
    )
    end = start["items"].data[0].current_period_end
    clock.move(seconds=end - timezone.now().timestamp() + 60)
    renewal = record_newest(subscriber)
    assert renewal.stripe_status == "draft"
    assert renewal.billing_reason == "subscription_cycle"
    return renewal


def test_draft_that_staff_hold_is_neither_finalized_nor_charged(draft, sandbox, clock):
    change_at_stripe(sandbox, draft, auto_advance=False)

    clock.move(hours=3)
    held = collect(draft)

    assert at_stripe(sandbox, draft).status == "draft"
    assert not draft.card_attempts.exists()
    assert (held.hold, held.state) == (Hold.HELD, "draft")
    # Read again by itself: the event of its release may be lost.
    assert held.next_attempt_at <= timezone.now() + timedelta(hours=6)
    details = get_invoice(draft.pk).collection
    assert details and details.hold == "held"


def test_first_draft_that_staff_hold_is_not_finalized(subscriber, sandbox):
    first = record_newest(subscriber)
    change_at_stripe(sandbox, first, auto_advance=False)

    assert collect(first).hold == Hold.HELD

    assert at_stripe(sandbox, first).status == "draft"


@pytest.mark.parametrize("days", [1, 3, 10])
def test_scheduled_draft_is_finalized_at_its_time(draft, sandbox, clock, days):
    at = int((timezone.now() + timedelta(days=days)).timestamp())
    change_at_stripe(sandbox, draft, automatically_finalizes_at=at)

    clock.move(days=days, hours=-1)
    scheduled = collect(draft)
    assert at_stripe(sandbox, draft).status == "draft"
    assert scheduled.hold == Hold.SCHEDULED
    assert scheduled.next_attempt_at <= timezone.now() + timedelta(hours=2)

    clock.move(hours=1, minutes=1)
    assert collect(draft).stripe_status == "paid"


def test_draft_whose_advance_we_stopped_is_finalized_by_us(draft, sandbox, clock):
    api = sandbox.client().v1.subscriptions
    tenant = draft.tenant
    api.update(
        tenant.stripe_subscription_id, {"collection_method": "charge_automatically"}
    )
    sync(tenant)
    assert at_stripe(sandbox, draft).auto_advance is False

    clock.move(hours=3)

    assert collect(draft).stripe_status == "paid"


def test_draft_without_the_field_of_a_hold_is_not_held(draft, sandbox, clock):
    def leave_out(context: Any) -> None:
        with context.update("invoice", draft.pk) as invoice:
            invoice["automatically_finalizes_at"] = None

    sandbox.app.transact(leave_out)
    clock.move(hours=3)

    assert collect(draft).stripe_status == "paid"


# --- refused finalization


def test_refused_finalization_is_recorded_told_and_sells_nothing_more(
    draft, sandbox, clock, alerts
):
    tenant = draft.tenant
    refuse_finalization(sandbox, tenant)
    clock.move(hours=3)

    stuck = collect(draft)

    assert (stuck.hold, stuck.stripe_status) == (Hold.REFUSED, "draft")
    assert stuck.finalization_error == "customer_tax_location_invalid"
    assert stuck.finalization_refused_at
    assert stuck.last_error and stuck.failures == 1
    assert [each["invoice"] for each in alerts] == [draft.pk]
    assert relay_status(tenant) == "active"
    with pytest.raises(BillingOnHold):
        create_relay(tenant_id=tenant.pk, subdomain="second", plan_id="basic")


def test_quantity_is_not_raised_while_finalization_is_refused(draft, sandbox, clock):
    tenant = draft.tenant
    refuse_finalization(sandbox, tenant)
    clock.move(hours=3)
    collect(draft)

    add_relay(tenant)
    sync(tenant)

    subscription = sandbox.client().v1.subscriptions.retrieve(
        tenant.stripe_subscription_id
    )
    assert [item.quantity for item in subscription["items"].data] == [1]


def test_refused_draft_is_retried_for_twenty_days_and_support_told_again(
    draft, sandbox, clock, alerts
):
    refuse_finalization(sandbox, draft.tenant)
    clock.move(hours=3)
    since = collect(draft).finalization_refused_at

    for _ in range(20):
        clock.move(days=1)
        stuck = collect(draft)
        assert stuck.next_attempt_at <= timezone.now() + timedelta(hours=1)

    assert len(alerts) == 21
    assert stuck.finalization_refused_at == since
    assert relay_status(draft.tenant) == "active"


def test_repaired_draft_is_finalized_and_sales_go_on(draft, sandbox, clock):
    tenant = draft.tenant
    refuse_finalization(sandbox, tenant)
    clock.move(hours=3)
    collect(draft)

    refuse_finalization(sandbox, tenant, "")
    collect_now(invoice_id=draft.pk)
    repaired = collect(draft)

    assert (repaired.stripe_status, repaired.hold) == ("paid", Hold.NONE)
    assert repaired.finalization_refused_at is None
    create_relay(tenant_id=tenant.pk, subdomain="second", plan_id="basic")


def test_refusal_that_stripe_met_itself_is_retried_at_once(draft, sandbox, clock):
    refuse_finalization(sandbox, draft.tenant)
    clock.move(minutes=59, seconds=30)
    assert at_stripe(sandbox, draft).last_finalization_error

    since = int(timezone.now().timestamp()) - 300
    process_events(sandbox, "invoice.finalization_failed", since=since)

    draft.refresh_from_db()
    assert draft.hold == Hold.REFUSED
    assert draft.enqueued_at
    refuse_finalization(sandbox, draft.tenant, "")
    assert collect(draft).stripe_status == "paid"


def test_events_of_a_refusal_start_no_further_try(draft, sandbox, clock):
    refuse_finalization(sandbox, draft.tenant)
    clock.move(hours=3)
    since = int(timezone.now().timestamp())
    stuck = collect(draft)

    process_events(
        sandbox, "invoice.finalization_failed", "invoice.updated", since=since
    )

    draft.refresh_from_db()
    assert (draft.enqueued_at, draft.next_attempt_at) == (None, stuck.next_attempt_at)


def test_change_of_a_refused_draft_starts_a_try_at_once(draft, sandbox, clock):
    refuse_finalization(sandbox, draft.tenant)
    clock.move(hours=3)
    collect(draft)
    clock.move(minutes=5)
    since = int(timezone.now().timestamp())

    change_at_stripe(sandbox, draft, description="Address corrected")
    process_events(sandbox, "invoice.updated", since=since)

    draft.refresh_from_db()
    assert draft.enqueued_at


def test_refused_draft_that_staff_hold_waits_for_them(draft, sandbox, clock, alerts):
    refuse_finalization(sandbox, draft.tenant)
    clock.move(hours=3)
    collect(draft)

    change_at_stripe(sandbox, draft, auto_advance=False)
    held = collect(draft)

    assert (held.hold, held.failures, len(alerts)) == (Hold.HELD, 0, 1)


@pytest.fixture
def alerts(monkeypatch) -> list[dict[str, Any]]:
    """Alerts to support, without the limit of one a day."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "billing.services.dunning.stuck_drafts.alert_support",
        lambda event, message, **fields: told.append(fields),
    )
    return told
