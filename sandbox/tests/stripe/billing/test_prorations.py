"""Prorations, renewals and the final invoice of a subscription."""

from itertools import pairwise

import pytest

from sandbox.stripe.money.rounding import prorate
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY


def pending(api, subscription):
    """Return the amounts of the pending invoice items, newest first."""
    items = api.v1.invoice_items.list(
        {"customer": subscription.customer, "pending": True}
    )
    return [item.amount for item in items.data]


def prorated(amount, item, at):
    """Return the part of the amount for the item's period from `at` on."""
    return prorate(
        amount, start=item.current_period_start, end=item.current_period_end, at=at
    )


def test_raised_quantity_is_prorated_to_the_second(api, stripe_sandbox):
    subscription = builders.subscription(api, builders.price(api, 999), quantity=2)
    item = subscription.items.data[0]
    stripe_sandbox.advance(10 * DAY + 12_345)
    change = {"id": item.id, "quantity": 5}

    api.v1.subscriptions.update(subscription.id, {"items": [change]})

    items = api.v1.invoice_items.list({"customer": subscription.customer}).data
    at = items[0].date
    assert pending(api, subscription) == [
        prorated(-1_998, item, at),
        prorated(4_995, item, at),
    ]
    assert items[0].description.startswith("Unused time on 2 × Relay after ")
    assert items[1].description.startswith("Remaining time on 5 × Relay after ")
    assert all(item.proration for item in items)


def test_adding_and_removing_items_is_prorated(api, stripe_sandbox):
    subscription = builders.subscription(api, builders.price(api))
    item = subscription.items.data[0]
    stripe_sandbox.advance(7 * DAY)
    changes = [
        {"price": builders.price(api, 3_000).id},
        {"id": item.id, "deleted": True},
    ]

    changed = api.v1.subscriptions.update(subscription.id, {"items": changes})

    at = api.v1.invoice_items.list().data[0].date
    assert pending(api, subscription) == [
        prorated(-1_000, item, at),
        prorated(3_000, item, at),
    ]
    assert changed.items.data[0].current_period_end == item.current_period_end


def test_change_with_proration_behavior_none_creates_no_items(api, stripe_sandbox):
    subscription = builders.subscription(api)
    stripe_sandbox.advance(DAY)
    change = {"id": subscription.items.data[0].id, "quantity": 5}

    changed = api.v1.subscriptions.update(
        subscription.id, {"items": [change], "proration_behavior": "none"}
    )

    assert changed.items.data[0].quantity == 5
    assert pending(api, subscription) == []


def test_unchanged_quantity_is_not_prorated(api, stripe_sandbox):
    subscription = builders.subscription(api, quantity=2)
    stripe_sandbox.advance(DAY)
    change = {"id": subscription.items.data[0].id, "quantity": 2}

    api.v1.subscriptions.update(subscription.id, {"items": [change]})

    assert pending(api, subscription) == []


def test_always_invoice_bills_the_proration_at_once(api, stripe_sandbox):
    subscription = builders.subscription(api)
    stripe_sandbox.advance(DAY)
    change = {"id": subscription.items.data[0].id, "quantity": 5}

    changed = api.v1.subscriptions.update(
        subscription.id, {"items": [change], "proration_behavior": "always_invoice"}
    )

    invoice = api.v1.invoices.retrieve(changed.latest_invoice)
    assert invoice.id != subscription.latest_invoice
    assert invoice.billing_reason == "subscription_update"
    assert invoice.status == "open"
    assert invoice.total == sum(line.amount for line in invoice.lines.data) > 0


def test_renewal_moves_period_and_bills_earlier_prorations(api, stripe_sandbox):
    subscription = builders.subscription(api, quantity=1)
    item = subscription.items.data[0]
    stripe_sandbox.advance(10 * DAY)
    change = {"id": item.id, "quantity": 2}
    api.v1.subscriptions.update(subscription.id, {"items": [change]})
    credit, debit = pending(api, subscription)

    stripe_sandbox.advance(item.current_period_end - stripe_sandbox.now())

    renewed = api.v1.subscriptions.retrieve(subscription.id)
    invoice = api.v1.invoices.retrieve(renewed.latest_invoice)
    assert renewed.items.data[0].current_period_start == item.current_period_end
    assert invoice.created == item.current_period_end
    assert invoice.billing_reason == "subscription_cycle"
    assert invoice.status == "draft"
    assert [line.amount for line in invoice.lines.data] == [credit, debit, 2_000]
    details = invoice.lines.data[0].parent.subscription_item_details
    assert details.proration
    assert details.proration_details.credited_items.invoice == (
        subscription.latest_invoice
    )
    assert pending(api, subscription) == []


def test_advancing_a_year_bills_each_month_once(api, stripe_sandbox):
    subscription = builders.subscription(api)

    stripe_sandbox.advance(365 * DAY)

    invoices = list(
        api.v1.invoices.list({"subscription": subscription.id}).auto_paging_iter()
    )
    periods = [
        (line.period.start, line.period.end)
        for invoice in reversed(invoices)
        for line in invoice.lines.data
    ]
    assert len(invoices) in (12, 13)
    assert all(earlier[1] == later[0] for earlier, later in pairwise(periods))
    assert len({invoice.number for invoice in invoices}) == len(invoices)


def test_cancelling_with_prorate_and_invoice_now_creates_final_draft(
    api, stripe_sandbox
):
    subscription = builders.subscription(api)
    item = subscription.items.data[0]
    builders.first_invoice(api, subscription)
    stripe_sandbox.advance(15 * DAY)

    ended = api.v1.subscriptions.cancel(
        subscription.id, {"prorate": True, "invoice_now": True}
    )

    final = api.v1.invoices.retrieve(ended.latest_invoice)
    credit = prorated(-1_000, item, ended.ended_at)
    assert (final.status, final.total, final.amount_due) == ("draft", credit, 0)
    finalized = api.v1.invoices.finalize_invoice(final.id)
    assert (finalized.status, finalized.ending_balance) == ("paid", credit)
    assert api.v1.customers.retrieve(subscription.customer).balance == credit


@pytest.mark.parametrize("prorate", [False, True])
def test_cancelling_deletes_pending_prorations_unless_prorated(
    api, stripe_sandbox, prorate
):
    subscription = builders.subscription(api)
    stripe_sandbox.advance(DAY)
    change = {"id": subscription.items.data[0].id, "quantity": 2}
    api.v1.subscriptions.update(subscription.id, {"items": [change]})

    ended = api.v1.subscriptions.cancel(subscription.id, {"prorate": prorate})

    assert len(pending(api, subscription)) == (3 if prorate else 0)
    assert ended.latest_invoice == subscription.latest_invoice
