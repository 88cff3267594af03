"""Prorations in figures computed by hand: a period of thirty days, changed in it."""

from typing import Any

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY

SEPTEMBER = 1_788_220_800  # 2026-09-01, midnight UTC; the month has thirty days.
# A moment at which exactly 1/400 of the period is left.
LATE = 30 * DAY - 30 * DAY // 400


class Account:
    """A sandbox that stands at the start of September, with a subscription."""

    def __init__(self, *amounts, mode="flexible", quantity=1) -> None:
        self.app = StripeApp(seed=1)
        self.api: Any = in_process_client(self.app)
        self.prices = [story.price(self.api, amount) for amount in amounts]
        self.subscribed = story.subscription(
            self.api, *self.prices, quantity=quantity, billing_mode={"type": mode}
        )
        self.items = [item.id for item in self.subscribed.items.data]

    def at(self, seconds):
        self.app.advance(SEPTEMBER + seconds - self.app.clock.now())

    def change(self, *changes, **params):
        return self.api.v1.subscriptions.update(
            self.subscribed.id, {"items": list(changes), **params}
        )

    def pending(self):
        listed = self.api.v1.invoice_items.list({"pending": True}).data
        return [item.amount for item in listed]

    def latest(self):
        subscribed = self.api.v1.subscriptions.retrieve(self.subscribed.id)
        return self.api.v1.invoices.retrieve(subscribed.latest_invoice)


@pytest.fixture(autouse=True)
def september(monkeypatch):
    monkeypatch.setattr("sandbox.stripe.clock.time.time", lambda: SEPTEMBER)


def to_price(amount):
    return lambda account: {
        "id": account.items[0],
        "price": story.price(account.api, amount).id,
    }


def to_quantity(quantity):
    return lambda account: {"id": account.items[0], "quantity": quantity}


def added(amount, quantity=1):
    return lambda account: {
        "price": story.price(account.api, amount).id,
        "quantity": quantity,
    }


def removed(number):
    return lambda account: {"id": account.items[number], "deleted": True}


TABLE = [
    # prices, quantity, after, changes, pending items, newest first
    ((2_000,), 1, 20 * DAY, [to_price(1_000)], [-667, 333]),
    ((1_000,), 1, 20 * DAY, [to_price(2_000)], [-333, 667]),
    ((1_000,), 1, 15 * DAY, [to_price(2_000)], [-500, 1_000]),
    ((1_000,), 1, 20 * DAY, [to_quantity(3)], [-333, 1_000]),
    ((1_000,), 3, 20 * DAY, [to_quantity(1)], [-1_000, 333]),
    ((999,), 2, 10 * DAY, [to_quantity(0)], [-1_332, 0]),
    ((1_000,), 1, 20 * DAY, [added(1_500, 2)], [1_000]),
    ((1_000, 3_000), 1, 20 * DAY, [removed(1)], [-1_000]),
    ((1_000,), 2, 20 * DAY, [removed(0), added(1_500)], [-667, 500]),
    ((1_000,), 1, 0, [to_quantity(2)], [-1_000, 2_000]),
    ((1_000,), 1, 1, [to_quantity(2)], [-1_000, 2_000]),
    ((1_000,), 1, 30 * DAY - 1, [to_quantity(2)], [0, 0]),
    ((1_000,), 1, 20 * DAY, [to_quantity(1)], []),
    # Exact halves, as others recorded them of Stripe.
    ((1_000,), 1, LATE, [to_price(1_800)], [-3, 4]),
    ((1_000,), 1, LATE, [to_quantity(3)], [-3, 7]),
]


@pytest.mark.parametrize("mode", ["flexible", "classic"])
@pytest.mark.parametrize(("prices", "quantity", "after", "changes", "pending"), TABLE)
def test_each_change_in_figures(mode, prices, quantity, after, changes, pending):
    account = Account(*prices, mode=mode, quantity=quantity)
    account.at(after)

    account.change(*(make(account) for make in changes))

    assert account.pending() == pending


@pytest.mark.parametrize(
    ("mode", "lines", "total"),
    [("classic", [-667, 333], -334), ("flexible", [-333, 333], 0)],
)
def test_what_was_changed_without_prorations_is_not_credited(mode, lines, total):
    """The example of the docs page "Prorations", to the cent."""
    account = Account(1_000, mode=mode)
    account.at(10 * DAY)
    account.change(to_price(2_000)(account), proration_behavior="none")
    account.at(20 * DAY)

    back = {"id": account.items[0], "price": account.prices[0].id}
    account.change(back, proration_behavior="always_invoice")

    invoice = account.latest()
    assert [line.amount for line in invoice.lines.data] == lines
    assert (invoice.total, invoice.status) == (total, "paid")
    assert invoice.ending_balance == total


@pytest.mark.parametrize(
    ("behavior", "pending", "billed"),
    [
        ("create_prorations", [-333, 1_000], None),
        ("none", [], None),
        ("always_invoice", [], 667),
    ],
)
def test_what_becomes_of_a_change_is_the_callers_choice(behavior, pending, billed):
    account = Account(1_000)
    account.at(20 * DAY)

    account.change(to_quantity(3)(account), proration_behavior=behavior)

    latest = account.latest()
    assert account.pending() == pending
    assert (latest.id == account.subscribed.latest_invoice) == (billed is None)
    if billed:
        assert (latest.billing_reason, latest.total) == ("subscription_update", billed)
    account.at(30 * DAY)
    assert account.latest().total == 3_000 + sum(pending)


CANCELLATIONS = [
    # prorate, invoice_now, left pending, lines of the final invoice
    (False, False, [], None),
    (True, False, [-667, -667, 1_333], None),
    (False, True, [], [-667, 1_333]),
    (True, True, [], [-667, -667, 1_333]),
]


@pytest.mark.parametrize("mode", ["flexible", "classic"])
@pytest.mark.parametrize(("prorate", "now", "left", "final"), CANCELLATIONS)
def test_each_cancellation_in_figures(mode, prorate, now, left, final):
    account = Account(1_000, mode=mode)
    account.at(10 * DAY)
    account.change(to_quantity(2)(account))
    account.at(20 * DAY)

    ended = account.api.v1.subscriptions.cancel(
        account.subscribed.id, {"prorate": prorate, "invoice_now": now}
    )

    assert account.pending() == left
    if final is None:
        assert ended.latest_invoice == account.subscribed.latest_invoice
    else:
        invoice = account.latest()
        assert [line.amount for line in invoice.lines.data] == final
        assert invoice.status == "draft"


def test_cancelling_with_nothing_to_bill_makes_no_invoice():
    account = Account(1_000)

    ended = account.api.v1.subscriptions.cancel(
        account.subscribed.id, {"invoice_now": True}
    )

    assert ended.latest_invoice == account.subscribed.latest_invoice


def test_what_a_cancellation_leaves_goes_on_the_next_subscription():
    account = Account(1_000)
    payer = account.api.v1.customers.retrieve(account.subscribed.customer)
    account.api.v1.invoice_items.create(
        {
            "customer": payer.id,
            "subscription": account.subscribed.id,
            "amount": 250,
            "currency": "usd",
        }
    )
    account.at(20 * DAY)
    account.change(to_quantity(2)(account))
    account.api.v1.subscriptions.cancel(account.subscribed.id)
    left = account.pending()

    again = story.subscription(account.api, account.prices[0], to=payer)

    invoice = account.api.v1.invoices.retrieve(again.latest_invoice)
    assert left == [250]
    assert [line.amount for line in invoice.lines.data] == [250, 1_000]
    assert account.pending() == []


def test_removing_an_item_that_was_added_without_prorations_credits_nothing():
    account = Account(1_000)
    account.at(10 * DAY)
    changed = account.change(added(3_000)(account), proration_behavior="none")
    extra = changed.items.data[1].id
    account.at(20 * DAY)

    account.change({"id": extra, "deleted": True})

    assert account.pending() == []


def test_a_second_change_credits_the_first_ones_debit():
    account = Account(1_000)
    account.at(10 * DAY)
    account.change(to_quantity(2)(account))
    account.at(20 * DAY)
    account.change(to_quantity(5)(account))

    credit, _, first_credit, first_debit = account.api.v1.invoice_items.list().data

    assert account.pending() == [-667, 1_667, -667, 1_333]
    by_item = credit.proration_details.credited_items
    assert (by_item.type, by_item.invoice_item) == ("invoice_item", first_debit.id)
    assert by_item.invoice_line_item_details is None
    by_line = first_credit.proration_details.credited_items
    assert by_line.type == "invoice_line_items"
    assert by_line.invoice_line_item_details.invoice == (
        account.subscribed.latest_invoice
    )
    assert first_debit.proration_details.credited_items is None
    assert first_debit.frozen_fields == ["pricing", "quantity", "discounts"]


def test_a_debit_that_was_invoiced_is_credited_by_its_line():
    account = Account(1_000)
    account.at(10 * DAY)
    account.change(to_quantity(2)(account), proration_behavior="always_invoice")
    billed = account.latest()
    account.at(20 * DAY)

    account.change(to_quantity(1)(account))

    credit = account.api.v1.invoice_items.list().data[0]
    details = credit.proration_details.credited_items.invoice_line_item_details
    assert details.invoice == billed.id
    assert details.invoice_line_items == [billed.lines.data[1].id]
    account.at(30 * DAY)
    line = account.latest().lines.data[0]
    credited = line.parent.subscription_item_details.proration_details.credited_items
    assert credited.invoice_line_items == [billed.lines.data[1].id]


def test_classic_prorations_refer_to_no_debit():
    account = Account(1_000, mode="classic")
    account.at(10 * DAY)

    account.change(to_quantity(2)(account))

    items = account.api.v1.invoice_items.list().data
    assert [item.proration_details for item in items] == [None, None]


def test_a_proration_date_stands_in_for_now():
    account = Account(1_000)
    account.at(25 * DAY)
    third = SEPTEMBER + 20 * DAY

    account.change(to_quantity(3)(account), proration_date=third)

    credit = account.api.v1.invoice_items.list().data[0]
    assert account.pending() == [-333, 1_000]
    assert credit.period.start == third
    assert credit.description.endswith("after 21 Sep 2026")
    assert credit.date == SEPTEMBER + 25 * DAY


@pytest.mark.parametrize("offset", [-1, 30 * DAY + 1])
def test_a_proration_date_lies_in_the_current_period(offset):
    account = Account(1_000)
    change = to_quantity(3)(account)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        account.change(change, proration_date=SEPTEMBER + offset)

    assert caught.value.param == "proration_date"
    assert account.pending() == []


def test_items_are_prorated_from_a_date_by_their_own_endpoint():
    account = Account(1_000)
    account.at(25 * DAY)

    account.api.v1.subscription_items.update(
        account.items[0], {"quantity": 3, "proration_date": SEPTEMBER + 20 * DAY}
    )

    assert account.pending() == [-333, 1_000]
