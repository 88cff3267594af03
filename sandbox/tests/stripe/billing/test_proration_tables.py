"""Prorations within a thirty-day period, compared with amounts computed by hand."""

from typing import Any

import pytest

from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY

SEPTEMBER = 1_788_220_800  # 2026-09-01, midnight UTC; the month has thirty days.
# Exactly 1/400 of the period remains.
NEAR_END = 30 * DAY - 30 * DAY // 400


class Account:
    """A sandbox with a subscription that starts on the first of September."""

    def __init__(self, *amounts, quantity=1) -> None:
        self.app = StripeApp(seed=1)
        self.api: Any = in_process_client(self.app)
        self.prices = [builders.price(self.api, amount) for amount in amounts]
        self.subscription = builders.subscription(
            self.api, *self.prices, quantity=quantity
        )
        self.items = [item.id for item in self.subscription.items.data]

    def advance_to(self, seconds):
        """Advance to `seconds` after the start of the period."""
        self.app.advance(SEPTEMBER + seconds - self.app.clock.now())

    def change(self, *changes, **params):
        return self.api.v1.subscriptions.update(
            self.subscription.id, {"items": list(changes), **params}
        )

    def pending(self):
        page = self.api.v1.invoice_items.list({"pending": True})
        return [item.amount for item in page.data]

    def latest_invoice(self):
        subscription = self.api.v1.subscriptions.retrieve(self.subscription.id)
        return self.api.v1.invoices.retrieve(subscription.latest_invoice)


@pytest.fixture(autouse=True)
def september(monkeypatch):
    monkeypatch.setattr("sandbox.stripe.clock.clock.time.time", lambda: SEPTEMBER)


def to_price(amount):
    return lambda account: {
        "id": account.items[0],
        "price": builders.price(account.api, amount).id,
    }


def to_quantity(quantity):
    return lambda account: {"id": account.items[0], "quantity": quantity}


def added_item(amount, quantity=1):
    return lambda account: {
        "price": builders.price(account.api, amount).id,
        "quantity": quantity,
    }


def removed_item(number):
    return lambda account: {"id": account.items[number], "deleted": True}


TABLE = [
    # prices, quantity, after, changes, pending items, newest first
    ((2_000,), 1, 20 * DAY, [to_price(1_000)], [-667, 333]),
    ((1_000,), 1, 20 * DAY, [to_price(2_000)], [-333, 667]),
    ((1_000,), 1, 15 * DAY, [to_price(2_000)], [-500, 1_000]),
    ((1_000,), 1, 20 * DAY, [to_quantity(3)], [-333, 1_000]),
    ((1_000,), 3, 20 * DAY, [to_quantity(1)], [-1_000, 333]),
    ((999,), 2, 10 * DAY, [to_quantity(0)], [-1_332, 0]),
    ((1_000,), 1, 20 * DAY, [added_item(1_500, 2)], [1_000]),
    ((1_000, 3_000), 1, 20 * DAY, [removed_item(1)], [-1_000]),
    ((1_000,), 2, 20 * DAY, [removed_item(0), added_item(1_500)], [-667, 500]),
    ((1_000,), 1, 0, [to_quantity(2)], [-1_000, 2_000]),
    ((1_000,), 1, 1, [to_quantity(2)], [-1_000, 2_000]),
    ((1_000,), 1, 30 * DAY - 1, [to_quantity(2)], [0, 0]),
    ((1_000,), 1, 20 * DAY, [to_quantity(1)], []),
    # Exact halves: amounts recorded by users of the real Stripe.
    ((1_000,), 1, NEAR_END, [to_price(1_800)], [-3, 4]),
    ((1_000,), 1, NEAR_END, [to_quantity(3)], [-3, 7]),
]


@pytest.mark.parametrize(("prices", "quantity", "after", "changes", "pending"), TABLE)
def test_change_creates_expected_prorations(prices, quantity, after, changes, pending):
    account = Account(*prices, quantity=quantity)
    account.advance_to(after)

    account.change(*(change(account) for change in changes))

    assert account.pending() == pending


def test_credit_is_of_the_price_before_a_change_without_prorations():
    """Example of the docs page "Prorations"."""
    account = Account(1_000)
    account.advance_to(10 * DAY)
    account.change(to_price(2_000)(account), proration_behavior="none")
    account.advance_to(20 * DAY)

    back = {"id": account.items[0], "price": account.prices[0].id}
    account.change(back, proration_behavior="always_invoice")

    invoice = account.latest_invoice()
    assert [line.amount for line in invoice.lines.data] == [-333, 333]
    assert (invoice.total, invoice.status) == (0, "paid")


@pytest.mark.parametrize(
    ("behavior", "pending", "invoiced"),
    [
        ("create_prorations", [-333, 1_000], None),
        ("none", [], None),
        ("always_invoice", [], 667),
    ],
)
def test_proration_behavior_decides_pending_items_and_invoice(
    behavior, pending, invoiced
):
    account = Account(1_000)
    account.advance_to(20 * DAY)

    account.change(to_quantity(3)(account), proration_behavior=behavior)

    latest = account.latest_invoice()
    assert account.pending() == pending
    assert (latest.id == account.subscription.latest_invoice) == (invoiced is None)
    if invoiced:
        assert (latest.billing_reason, latest.total) == (
            "subscription_update",
            invoiced,
        )
    account.advance_to(30 * DAY)
    assert account.latest_invoice().total == 3_000 + sum(pending)


CANCELLATIONS = [
    # prorate, invoice_now, pending items, lines of the final invoice
    (False, False, [], None),
    (True, False, [-667, -667, 1_333], None),
    (False, True, [], [-667, 1_333]),
    (True, True, [], [-667, -667, 1_333]),
]


@pytest.mark.parametrize(("prorate", "now", "pending", "final"), CANCELLATIONS)
def test_cancellation_options_decide_pending_items_and_final_invoice(
    prorate, now, pending, final
):
    account = Account(1_000)
    account.advance_to(10 * DAY)
    account.change(to_quantity(2)(account))
    account.advance_to(20 * DAY)

    ended = account.api.v1.subscriptions.cancel(
        account.subscription.id, {"prorate": prorate, "invoice_now": now}
    )

    assert account.pending() == pending
    if final is None:
        assert ended.latest_invoice == account.subscription.latest_invoice
    else:
        invoice = account.latest_invoice()
        assert [line.amount for line in invoice.lines.data] == final
        assert invoice.status == "draft"


def test_pending_prorations_can_stay_when_neither_option_is_given():
    account = Account(1_000)
    account.app.change_settings({"canceled_prorations": "kept"})
    account.advance_to(10 * DAY)
    account.change(to_quantity(2)(account))

    account.api.v1.subscriptions.cancel(account.subscription.id)

    assert account.pending() == [-667, 1_333]


def test_cancelling_with_nothing_to_bill_creates_no_invoice():
    account = Account(1_000)

    ended = account.api.v1.subscriptions.cancel(
        account.subscription.id, {"invoice_now": True}
    )

    assert ended.latest_invoice == account.subscription.latest_invoice


def test_items_left_by_cancellation_are_billed_with_next_subscription():
    account = Account(1_000)
    payer = account.api.v1.customers.retrieve(account.subscription.customer)
    account.advance_to(20 * DAY)
    account.api.v1.subscriptions.cancel(account.subscription.id, {"prorate": True})
    pending = account.pending()

    second = builders.subscription(account.api, account.prices[0], to=payer)

    invoice = account.api.v1.invoices.retrieve(second.latest_invoice)
    assert pending == [-333]
    assert [line.amount for line in invoice.lines.data] == [-333, 1_000]
    assert account.pending() == []


def test_removing_item_added_without_prorations_credits_nothing():
    account = Account(1_000)
    account.advance_to(10 * DAY)
    changed = account.change(added_item(3_000)(account), proration_behavior="none")
    extra = changed.items.data[1].id
    account.advance_to(20 * DAY)

    account.change({"id": extra, "deleted": True})

    assert account.pending() == []


def test_second_change_credits_debit_of_first_change():
    account = Account(1_000)
    account.advance_to(10 * DAY)
    account.change(to_quantity(2)(account))
    account.advance_to(20 * DAY)
    account.change(to_quantity(5)(account))

    credit, _, first_credit, first_debit = account.api.v1.invoice_items.list().data

    assert account.pending() == [-667, 1_667, -667, 1_333]
    by_item = credit.proration_details.credited_items
    assert (by_item.type, by_item.invoice_item) == ("invoice_item", first_debit.id)
    assert not hasattr(by_item, "invoice_line_item_details")
    by_line = first_credit.proration_details.credited_items
    assert by_line.type == "invoice_line_items"
    assert by_line.invoice_line_item_details.invoice == (
        account.subscription.latest_invoice
    )
    assert first_debit.proration_details.credited_items is None
    assert first_debit.frozen_fields == ["pricing", "quantity", "discounts"]


def test_credit_of_invoiced_debit_refers_to_its_line():
    account = Account(1_000)
    account.advance_to(10 * DAY)
    account.change(to_quantity(2)(account), proration_behavior="always_invoice")
    invoice = account.latest_invoice()
    account.advance_to(20 * DAY)

    account.change(to_quantity(1)(account))

    credit = account.api.v1.invoice_items.list().data[0]
    details = credit.proration_details.credited_items.invoice_line_item_details
    assert details.invoice == invoice.id
    assert details.invoice_line_items == [invoice.lines.data[1].id]
    account.advance_to(30 * DAY)
    line = account.latest_invoice().lines.data[0]
    credited = line.parent.subscription_item_details.proration_details.credited_items
    assert credited.invoice_line_items == [invoice.lines.data[1].id]
