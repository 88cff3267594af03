"""Discounts of subscriptions, customers and invoices (SDK types Discount, Invoice)."""

from typing import Any

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY
from sandbox.tests.support.stripe.control import control

MONTH = 31 * DAY


def totals(invoice: Any) -> list[int]:
    return [invoice.subtotal, invoice.total, invoice.amount_due]


def amounts_off(line: Any) -> list[int]:
    return [entry.amount for entry in line.discount_amounts]


def put_on_customer(sandbox, payer: Any, coupon: Any) -> None:
    path = f"customers/{payer.id}/discount"
    status, _ = control(sandbox, "POST", path, {"coupon": coupon.id})
    assert status == 200


def test_a_percentage_is_taken_off_each_invoice(api, stripe_sandbox):
    coupon = builders.coupon(api, percent_off=30)
    subscription = builders.subscription(api, discounts=[{"coupon": coupon.id}])
    stripe_sandbox.advance(MONTH + DAY)

    invoices = api.v1.invoices.list({"subscription": subscription.id}).data

    assert [totals(invoice) for invoice in invoices] == [[1_000, 700, 700]] * 2
    first = invoices[1]
    assert first.discounts == subscription.discounts
    (total,) = first.total_discount_amounts
    assert (total.amount, [total.discount]) == (300, subscription.discounts)
    assert [amounts_off(line) for line in first.lines.data] == [[300]]


def test_an_amount_is_spread_exactly_over_the_lines(api):
    prices = [builders.price(api, amount) for amount in (333, 333, 334)]
    coupon = builders.coupon(api, amount_off=100, currency="usd")
    subscription = builders.subscription(
        api, *prices, discounts=[{"coupon": coupon.id}]
    )

    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)

    assert totals(invoice) == [1_000, 900, 900]
    taken = [(line.amount, amounts_off(line)) for line in invoice.lines.data]
    assert taken == [(334, [34]), (333, [33]), (333, [33])]


def test_an_amount_above_the_subtotal_leaves_nothing_to_pay(api):
    coupon = builders.coupon(api, amount_off=2_000, currency="usd")
    subscription = builders.subscription(api, discounts=[{"coupon": coupon.id}])

    invoice: Any = builders.first_invoice(api, subscription)

    assert totals(invoice) == [1_000, 0, 0]
    assert (invoice.status, invoice.total_discount_amounts[0].amount) == ("paid", 1_000)


def test_discounts_apply_one_after_the_other(api):
    half = builders.coupon(api)
    ten = builders.coupon(api, percent_off=10)
    entries = [{"coupon": half.id}, {"coupon": ten.id}]
    subscription = builders.subscription(api, discounts=entries)

    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)

    assert amounts_off(invoice.lines.data[0]) == [500, 50]
    assert invoice.total == 450


def test_a_coupon_for_one_invoice_is_consumed_by_the_first(api, stripe_sandbox):
    coupon = builders.coupon(api, duration="once")

    subscription = builders.subscription(api, discounts=[{"coupon": coupon.id}])

    # https://github.com/stripe/stripe-go/issues/944
    assert subscription.discounts == []
    first = api.v1.invoices.retrieve(subscription.latest_invoice)
    stripe_sandbox.advance(MONTH + DAY)
    assert first.total == 500
    assert builders.newest_invoice(api, subscription).total == 1_000


def test_a_coupon_for_one_invoice_waits_for_the_next(api, stripe_sandbox):
    subscription = builders.subscription(api)
    coupon = builders.coupon(api, duration="once")

    changed = api.v1.subscriptions.update(
        subscription.id, {"discounts": [{"coupon": coupon.id}]}
    )

    assert len(changed.discounts) == 1
    stripe_sandbox.advance(MONTH + DAY)
    assert builders.newest_invoice(api, subscription).total == 500
    assert api.v1.subscriptions.retrieve(subscription.id).discounts == []
    stripe_sandbox.advance(MONTH)
    assert builders.newest_invoice(api, subscription).total == 1_000


def test_a_repeating_coupon_ends_after_its_months(api, stripe_sandbox):
    coupon = builders.coupon(api, duration="repeating", duration_in_months=2)
    subscription: Any = builders.subscription(
        api, discounts=[{"coupon": coupon.id}], expand=["discounts"]
    )
    start, end = subscription.discounts[0].start, subscription.discounts[0].end
    assert end - start in (59 * DAY, 60 * DAY, 61 * DAY, 62 * DAY)

    stripe_sandbox.advance(63 * DAY)

    invoices = api.v1.invoices.list({"subscription": subscription.id}).data
    assert [invoice.total for invoice in invoices] == [1_000, 500, 500]
    assert invoices[0].created == end
    assert api.v1.subscriptions.retrieve(subscription.id).discounts == []
    assert "customer.discount.deleted" in builders.event_types(api)


def test_a_renewal_in_the_second_in_which_a_discount_ends_is_not_discounted(
    monkeypatch,
):
    monkeypatch.setattr("sandbox.stripe.clock.clock.time.time", lambda: 1_800_000_000)
    app = StripeApp(seed=1)
    api = in_process_client(app)
    # Older than its discount, so its timer runs first.
    subscription = builders.subscription(api)
    coupon = builders.coupon(api, duration="repeating", duration_in_months=1)
    changed: Any = api.v1.subscriptions.update(
        subscription.id,
        {"discounts": [{"coupon": coupon.id}], "expand": ["discounts"]},
    )
    renewed_at = subscription["items"].data[0].current_period_end

    app.advance(renewed_at - app.clock.now())

    assert changed.discounts[0].end == renewed_at
    assert builders.newest_invoice(api, subscription).total == 1_000
    assert api.v1.subscriptions.retrieve(subscription.id).discounts == []


def test_other_discounts_replace_those_before(api):
    old, new = builders.coupon(api), builders.coupon(api, percent_off=10)
    subscription = builders.subscription(api, discounts=[{"coupon": old.id}])
    event = builders.latest_event(api)

    changed = api.v1.subscriptions.update(
        subscription.id,
        {"discounts": [{"coupon": new.id}], "expand": ["discounts.source.coupon"]},
    )

    assert [discount.source.coupon.id for discount in changed.discounts] == [new.id]
    assert builders.types_since(api, event) == [
        "customer.discount.created",
        "customer.discount.deleted",
        "customer.subscription.updated",
    ]


def test_a_discount_can_be_kept_beside_a_new_one(api):
    old, new = builders.coupon(api), builders.coupon(api, percent_off=10)
    subscription = builders.subscription(api, discounts=[{"coupon": old.id}])
    kept = subscription.discounts[0]

    changed = api.v1.subscriptions.update(
        subscription.id, {"discounts": [{"discount": kept}, {"coupon": new.id}]}
    )

    assert len(changed.discounts) == 2
    assert changed.discounts[0] == kept


def test_a_discount_of_another_subscription_cannot_be_reused(api):
    # SDK: "an existing discount on the object (or one of its ancestors)".
    payer = builders.customer(api)
    coupon = builders.coupon(api)
    old = builders.subscription(api, to=payer, discounts=[{"coupon": coupon.id}])

    with pytest.raises(stripe.InvalidRequestError, match="No such discount"):
        builders.subscription(api, to=payer, discounts=[{"discount": old.discounts[0]}])


@pytest.mark.parametrize("by", ["update", "delete"])
def test_discounts_can_be_removed(api, by):
    coupon = builders.coupon(api)
    subscription = builders.subscription(api, discounts=[{"coupon": coupon.id}])

    if by == "update":
        api.v1.subscriptions.update(subscription.id, {"discounts": ""})
    else:
        assert api.v1.subscriptions.delete_discount(subscription.id).deleted

    assert api.v1.subscriptions.retrieve(subscription.id).discounts == []
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.subscriptions.delete_discount(subscription.id)


def test_a_customers_discount_applies_to_subscriptions_without_own(api, stripe_sandbox):
    payer = builders.customer(api)
    half, ten = builders.coupon(api), builders.coupon(api, percent_off=10)

    put_on_customer(stripe_sandbox, payer, half)

    discount = api.v1.customers.retrieve(payer.id).discount
    assert discount.source.coupon == half.id
    inherited = builders.subscription(api, to=payer)
    own = builders.subscription(api, to=payer, discounts=[{"coupon": ten.id}])
    assert inherited.discounts == []
    first = api.v1.invoices.retrieve(inherited.latest_invoice)
    assert (first.total, first.discounts) == (500, [discount.id])
    assert api.v1.invoices.retrieve(own.latest_invoice).total == 900


def test_a_customers_discount_is_switched_and_deleted(api, stripe_sandbox):
    payer = builders.customer(api)
    half, ten = builders.coupon(api), builders.coupon(api, percent_off=10)
    event = builders.latest_event(api)

    for coupon in (half, ten):
        put_on_customer(stripe_sandbox, payer, coupon)
    api.v1.customers.delete_discount(payer.id)

    assert api.v1.customers.retrieve(payer.id).discount is None
    assert builders.types_since(api, event) == [
        "customer.discount.created",
        "customer.updated",
        "customer.discount.updated",
        "customer.updated",
        "customer.discount.deleted",
        "customer.updated",
    ]


def test_an_invoice_can_have_its_own_discounts(api):
    payer = builders.customer(api)
    coupon = builders.coupon(api, percent_off=33.3333)
    api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 1_000, "currency": "usd"}
    )
    draft: Any = {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    invoice = api.v1.invoices.create({**draft, "discounts": [{"coupon": coupon.id}]})

    cleared = api.v1.invoices.update(invoice.id, {"discounts": ""})

    assert totals(invoice) == [1_000, 667, 667]
    assert totals(cleared) == [1_000, 1_000, 1_000]
    assert "customer.discount.created" not in builders.event_types(api)


def test_credits_are_not_discounted(api):
    payer = builders.customer(api)
    coupon = builders.coupon(api)
    for amount in (1_000, -300):
        api.v1.invoice_items.create(
            {"customer": payer.id, "amount": amount, "currency": "usd"}
        )

    invoice = api.v1.invoices.create(
        {
            "customer": payer.id,
            "pending_invoice_items_behavior": "include",
            "discounts": [{"coupon": coupon.id}],
        }
    )

    assert totals(invoice) == [700, 200, 200]
    assert [line.discountable for line in invoice.lines.data] == [False, True]
