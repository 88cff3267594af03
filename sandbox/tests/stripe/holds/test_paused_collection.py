"""Paused collection (docs.stripe.com/billing/subscriptions/pause-payment)."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR


@pytest.fixture
def pause(api):
    """Function that pauses the collection of a paid subscription and returns it."""

    def pause(behavior, **fields):
        subscription = builders.subscription(api)
        invoice = builders.first_invoice(api, subscription)
        api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
        paused = {"behavior": behavior, **fields}
        return api.v1.subscriptions.update(
            subscription.id, {"pause_collection": paused}
        )

    return pause


def credit(api, subscription, amount):
    api.v1.customers.balance_transactions.create(
        subscription.customer, {"amount": -amount, "currency": "usd"}
    )


def test_kept_draft_stays_a_draft(stripe_sandbox, api, pause):
    subscription = pause("keep_as_draft")

    stripe_sandbox.advance(45 * DAY)

    invoice = builders.newest_invoice(api, subscription)
    assert (invoice.status, invoice.auto_advance) == ("draft", False)
    assert invoice.automatically_finalizes_at is None
    assert builders.status_of(api, subscription) == "active"


def test_kept_draft_is_finalized_once_staff_let_it_advance(stripe_sandbox, api, pause):
    subscription = pause("keep_as_draft")
    stripe_sandbox.advance(31 * DAY)
    draft = builders.newest_invoice(api, subscription)
    api.v1.subscriptions.update(subscription.id, {"pause_collection": ""})

    stripe_sandbox.advance(DAY)
    kept = api.v1.invoices.retrieve(draft.id).status
    api.v1.invoices.update(draft.id, {"auto_advance": True})
    stripe_sandbox.advance(HOUR)

    assert (kept, api.v1.invoices.retrieve(draft.id).status) == ("draft", "open")


def test_uncollectible_invoice_is_written_off_at_once(stripe_sandbox, api, pause):
    subscription = pause("mark_uncollectible")

    stripe_sandbox.advance(31 * DAY)

    invoice = builders.newest_invoice(api, subscription)
    assert (invoice.status, invoice.auto_advance) == ("uncollectible", False)
    assert invoice.status_details.uncollectible.reason == "subscription_paused"
    assert builders.status_of(api, subscription) == "active"


@pytest.mark.parametrize(
    ("balance", "status", "remaining"),
    [(300, "uncollectible", 700), (1_000, "paid", 0)],
)
def test_balance_is_used_before_an_invoice_is_written_off(
    stripe_sandbox, api, pause, balance, status, remaining
):
    subscription = pause("mark_uncollectible")
    credit(api, subscription, balance)

    stripe_sandbox.advance(31 * DAY)

    invoice = builders.newest_invoice(api, subscription)
    assert (invoice.status, invoice.amount_remaining) == (status, remaining)


def test_void_invoice_leaves_the_balance(stripe_sandbox, api, pause):
    subscription = pause("void")
    credit(api, subscription, 1_000)

    stripe_sandbox.advance(31 * DAY)

    assert builders.newest_invoice(api, subscription).status == "void"
    assert api.v1.customers.retrieve(subscription.customer).balance == -1_000
    about_it = [type for type in builders.event_types(api) if type.startswith("inv")]
    assert about_it == [
        "invoice.created",
        "invoice.updated",
        "invoice.updated",
        "invoice.voided",
    ]


@pytest.mark.parametrize(
    ("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible")]
)
def test_invoice_can_be_a_draft_for_an_hour_first(
    stripe_sandbox, api, pause, behavior, status
):
    stripe_sandbox.settings(paused_invoices="after_an_hour")
    subscription = pause(behavior)
    end = subscription["items"].data[0].current_period_end

    stripe_sandbox.advance(end - stripe_sandbox.now())
    draft = builders.newest_invoice(api, subscription)
    stripe_sandbox.advance(HOUR)

    assert (draft.status, draft.auto_advance) == ("draft", False)
    assert api.v1.invoices.retrieve(draft.id).status == status


def test_earlier_invoice_is_collected_as_before(stripe_sandbox, api):
    payer, _ = builders.paying_customer(api)
    subscription = builders.automatic(api, to=payer)
    stripe_sandbox.advance(31 * DAY)
    api.v1.subscriptions.update(
        subscription.id, {"pause_collection": {"behavior": "void"}}
    )

    stripe_sandbox.advance(HOUR)

    assert builders.newest_invoice(api, subscription).status == "paid"


def test_collection_resumes_by_itself(stripe_sandbox, api, pause):
    resumes_at = stripe_sandbox.now() + 40 * DAY
    subscription = pause("void", resumes_at=resumes_at)

    stripe_sandbox.advance(40 * DAY)
    resumed = api.v1.subscriptions.retrieve(subscription.id)
    stripe_sandbox.advance(25 * DAY)

    assert resumed.pause_collection is None
    assert builders.newest_invoice(api, subscription).status == "open"


def test_end_of_the_pause_is_an_event(stripe_sandbox, api, pause):
    pause("void", resumes_at=stripe_sandbox.now() + DAY)

    stripe_sandbox.advance(2 * DAY)

    event = api.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    previous = event.data.previous_attributes["pause_collection"]
    assert previous["behavior"] == "void"


def test_pause_cannot_end_in_the_past(stripe_sandbox, pause):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        pause("void", resumes_at=stripe_sandbox.now())

    assert caught.value.param == "pause_collection[resumes_at]"


def test_proration_invoice_is_held_too(api, pause):
    subscription = pause("keep_as_draft")
    item = subscription["items"].data[0].id

    updated = api.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item, "quantity": 2}],
            "proration_behavior": "always_invoice",
        },
    )

    assert api.v1.invoices.retrieve(updated.latest_invoice).status == "draft"


def test_final_invoice_is_voided_too(api, pause):
    subscription = pause("void")

    api.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})

    assert builders.newest_invoice(api, subscription).status == "void"
    assert api.v1.customers.retrieve(subscription.customer).balance == 0
