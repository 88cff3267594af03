"""Pause and resumption (docs.stripe.com/billing/subscriptions/pause)."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR
from sandbox.tests.support.stripe.control import control


@pytest.fixture
def payer(api):
    """Customer with a card."""
    return builders.paying_customer(api)[0]


@pytest.fixture
def paused(stripe_sandbox, api, payer):
    """Subscription to $10.00 a month, paused after ten days."""
    subscription = builders.automatic(api, to=payer)
    stripe_sandbox.advance(10 * DAY)
    return api.v1.subscriptions.pause(subscription.id)


def pending(api, subscription):
    params = {"customer": subscription.customer, "pending": True}
    return [item.amount for item in api.v1.invoice_items.list(params).data]


def resume(api, subscription, **params):
    return api.v1.subscriptions.resume(subscription.id, params)


def test_paused_subscription_makes_no_invoices(stripe_sandbox, api, paused):
    stripe_sandbox.advance(100 * DAY)

    assert paused.status == "paused"
    assert paused.status_details.paused.subscription.type == "pause_requested"
    assert paused["items"].data[0].current_period_end == paused.start_date + 10 * DAY
    assert len(api.v1.invoices.list({"subscription": paused.id}).data) == 1


def test_pause_credits_the_unused_time(api, paused):
    (amount,) = pending(api, paused)

    assert -700 < amount < -600


@pytest.mark.parametrize(
    ("since", "amounts"), [("none", []), ("item_current_period_start", [-1_000])]
)
def test_credit_of_a_pause_can_be_chosen(stripe_sandbox, api, payer, since, amounts):
    subscription = builders.automatic(api, to=payer)
    stripe_sandbox.advance(10 * DAY)

    api.v1.subscriptions.pause(
        subscription.id, {"bill_for": {"unused_time_from": {"type": since}}}
    )

    assert pending(api, subscription) == amounts


def test_credit_of_a_pause_does_not_exceed_a_later_debit(stripe_sandbox, api, payer):
    subscription = builders.automatic(api, to=payer)
    stripe_sandbox.advance(10 * DAY)
    item = subscription["items"].data[0].id
    api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item, "quantity": 2}]}
    )
    _, debited = pending(api, subscription)

    api.v1.subscriptions.pause(
        subscription.id,
        {"bill_for": {"unused_time_from": {"type": "item_current_period_start"}}},
    )

    assert -debited in pending(api, subscription)


def test_credit_of_a_pause_can_be_invoiced_now(stripe_sandbox, api, payer):
    subscription = builders.automatic(api, to=payer)
    stripe_sandbox.advance(10 * DAY)

    api.v1.subscriptions.pause(subscription.id, {"invoicing_behavior": "invoice"})

    assert pending(api, subscription) == []
    assert api.v1.customers.retrieve(payer.id).balance < -600


def test_pause_and_resumption_are_events(api, paused):
    types = builders.event_types(api)
    before = builders.latest_event(api)

    resume(api, paused, billing_cycle_anchor={"type": "unchanged"})

    assert types[-2:] == [
        "customer.subscription.updated",
        "customer.subscription.paused",
    ]
    assert builders.types_since(api, before)[-2:] == [
        "customer.subscription.updated",
        "customer.subscription.resumed",
    ]


@pytest.mark.parametrize("status", ["paused", "canceled"])
def test_subscription_that_cannot_be_paused(api, paused, status):
    if status == "canceled":
        api.v1.subscriptions.cancel(paused.id)

    with pytest.raises(stripe.InvalidRequestError):
        api.v1.subscriptions.pause(paused.id)


def test_subscription_with_sent_invoices_cannot_be_paused(api):
    subscription = builders.subscription(api)

    with pytest.raises(stripe.InvalidRequestError):
        api.v1.subscriptions.pause(subscription.id)


def test_resumption_starts_a_new_period_once_its_invoice_is_paid(
    stripe_sandbox, api, paused
):
    stripe_sandbox.advance(100 * DAY)

    waiting = resume(api, paused)
    invoice = api.v1.invoices.retrieve(waiting.latest_invoice)
    api.v1.invoices.pay(invoice.id)

    resumed = api.v1.subscriptions.retrieve(paused.id)
    assert (waiting.status, invoice.status) == ("paused", "open")
    assert waiting.pending_update.expires_at == invoice.created + 23 * 3_600
    # The credit of the pause reduces it.
    assert 300 < invoice.amount_due < 400
    assert (resumed.status, resumed.pending_update) == ("active", None)
    assert resumed["items"].data[0].current_period_start == invoice.created
    assert resumed.billing_cycle_anchor == invoice.created


def test_unchanged_anchor_resumes_at_once_with_a_pending_proration(api, paused):
    resumed = resume(api, paused, billing_cycle_anchor={"type": "unchanged"})

    assert resumed.status == "active"
    assert resumed["items"].data[0].current_period_start == paused.start_date
    assert sum(pending(api, paused)) == 0


def test_unchanged_anchor_can_invoice_the_proration_now(api, paused):
    waiting = resume(
        api,
        paused,
        billing_cycle_anchor={"type": "unchanged"},
        proration_behavior="always_invoice",
    )

    # Credit and debit cancel each other: nothing is due.
    assert waiting.status == "active"
    assert api.v1.invoices.retrieve(waiting.latest_invoice).total == 0


def test_resumption_can_charge_the_card_at_once(stripe_sandbox, api, paused):
    resumed = resume(api, paused, payment_behavior="resume_on_payment_success")

    assert resumed.status == "active"
    assert api.v1.invoices.retrieve(resumed.latest_invoice).status == "paid"


@pytest.mark.parametrize(
    ("behavior", "status"),
    [
        ("resume_on_payment_attempt", "past_due"),
        ("resume_on_payment_success", "paused"),
    ],
)
def test_declined_card_of_a_resumption(api, payer, paused, behavior, status):
    builders.card(api, payer.id, "pm_card_chargeCustomerFail")

    waiting = resume(api, paused, payment_behavior=behavior)
    if behavior == "resume_on_payment_attempt":
        builders.pay_error(api, waiting.latest_invoice)

    assert builders.status_of(api, paused) == status


def test_resumption_on_success_needs_a_payment_method(api, payer, paused):
    method = api.v1.payment_methods.list({"customer": payer.id}).data[0]
    api.v1.payment_methods.detach(method.id)

    with pytest.raises(stripe.InvalidRequestError):
        resume(api, paused, payment_behavior="resume_on_payment_success")


@pytest.mark.parametrize(
    ("end", "status"),
    [("void_invoice", "paused"), ("mark_uncollectible", "active")],
)
def test_invoice_of_a_resumption_is_written_off(api, paused, end, status):
    waiting = resume(api, paused)

    getattr(api.v1.invoices, end)(waiting.latest_invoice)

    after = api.v1.subscriptions.retrieve(paused.id)
    assert (after.status, after.pending_update) == (status, None)


def test_unpaid_resumption_ends_after_23_hours(stripe_sandbox, api, paused):
    waiting = resume(api, paused)

    stripe_sandbox.advance(23 * 3_600)

    assert api.v1.invoices.retrieve(waiting.latest_invoice).status == "void"
    assert builders.status_of(api, paused) == "paused"


def test_dispute_ends_a_paused_subscription_at_once(stripe_sandbox, api, payer, paused):
    # "At the end of the period" finds none: it is over.
    stripe_sandbox.settings(after_dispute="cancel_at_period_end")
    (charge,) = api.v1.charges.list({"customer": payer.id}).data
    control(stripe_sandbox, "POST", f"charges/{charge.id}/dispute", {})

    stripe_sandbox.advance(HOUR)

    ended = api.v1.subscriptions.retrieve(paused.id)
    reason = ended.cancellation_details.reason
    assert (ended.status, reason) == ("canceled", "payment_disputed")


def test_change_of_a_paused_subscription_creates_no_proration(api, paused):
    before = pending(api, paused)

    api.v1.subscriptions.update(
        paused.id, {"items": [{"id": paused["items"].data[0].id, "quantity": 3}]}
    )

    assert pending(api, paused) == before
