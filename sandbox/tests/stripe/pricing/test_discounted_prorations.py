"""Prorations of discounted and taxed subscriptions.

Sources: docs page "Coupons" ("any existing discounts are applied when proration is
calculated"), docs page "Compare billing modes", and for the fields
https://docs.stripe.com/changelog/clover/2025-09-30/itemize-proration-discount-amounts
"""

from typing import Any

import pytest

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY


@pytest.fixture
def weekly(api):
    return builders.price(api, 1_400, recurring={"interval": "week"})


def change(api, subscription, **item: Any) -> list[Any]:
    """Change the first item and return the pending items, credit first."""
    item["id"] = subscription.items.data[0].id
    api.v1.subscriptions.update(subscription.id, {"items": [item]})
    params: Any = {"customer": subscription.customer, "pending": True}
    return list(api.v1.invoice_items.list(params).data)


def test_a_credit_returns_what_was_paid_after_the_discount(api, stripe_sandbox, weekly):
    coupon = builders.coupon(api)
    subscription = builders.subscription(api, weekly, discounts=[{"coupon": coupon.id}])
    api.v1.subscriptions.update(subscription.id, {"discounts": ""})
    stripe_sandbox.advance(DAY)

    credit, debit = change(api, subscription, quantity=2)

    assert (credit.amount, debit.amount) == (-600, 2_400)
    (included,) = credit.proration_details.discount_amounts
    assert (included.amount, included.discount) == (0, subscription.discounts[0])
    assert debit.proration_details.discount_amounts == []


def test_a_credit_returns_what_staff_made_of_a_draft(api, stripe_sandbox, weekly):
    subscription = builders.subscription(api, weekly)
    coupon = builders.coupon(api)
    api.v1.invoices.update(
        str(subscription.latest_invoice), {"discounts": [{"coupon": coupon.id}]}
    )
    stripe_sandbox.advance(DAY)

    credit, debit = change(api, subscription, quantity=2)

    assert (credit.amount, debit.amount) == (-600, 2_400)
    assert len(credit.proration_details.discount_amounts) == 1


def test_a_debit_is_discounted_as_the_subscription_is_now(api, stripe_sandbox, weekly):
    subscription = builders.subscription(api, weekly)
    coupon = builders.coupon(api, amount_off=700, currency="usd")
    api.v1.subscriptions.update(subscription.id, {"discounts": [{"coupon": coupon.id}]})
    stripe_sandbox.advance(DAY)

    credit, debit = change(api, subscription, quantity=2)

    assert (credit.amount, debit.amount) == (-1_200, 1_800)
    assert (debit.discountable, debit.net_amount) == (False, 1_800)


def test_an_invoice_of_prorations_lists_their_discounts_with_zero(api, weekly):
    coupon = builders.coupon(api)
    subscription = builders.subscription(api, weekly, discounts=[{"coupon": coupon.id}])

    item = subscription.items.data[0].id
    api.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item, "quantity": 3}],
            "proration_behavior": "always_invoice",
        },
    )

    invoice = builders.newest_invoice(api, subscription)
    assert (invoice.subtotal, invoice.total) == (1_400, 1_400)
    assert [entry.amount for entry in invoice.total_discount_amounts] == [0]
    assert [[entry.amount for entry in line.discount_amounts] for line in invoice.lines]


def test_a_coupon_for_one_invoice_also_reduces_a_debit(api, stripe_sandbox, weekly):
    # https://github.com/stripe/stripe-java/issues/1183: it is passed with the change.
    subscription = builders.subscription(api, weekly)
    coupon = builders.coupon(api, duration="once")

    item = subscription.items.data[0].id
    api.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item, "quantity": 2}],
            "discounts": [{"coupon": coupon.id}],
            "proration_behavior": "always_invoice",
        },
    )

    assert builders.newest_invoice(api, subscription).total == 0
    assert api.v1.subscriptions.retrieve(subscription.id).discounts == []


def test_a_cancellation_returns_the_unused_part_with_its_tax(
    api, stripe_sandbox, weekly
):
    coupon, rate = builders.coupon(api), builders.tax_rate(api, 20)
    subscription = builders.subscription(
        api,
        weekly,
        discounts=[{"coupon": coupon.id}],
        default_tax_rates=[rate.id],
    )
    first = builders.first_invoice(api, subscription)
    api.v1.subscriptions.update(
        subscription.id, {"default_tax_rates": "", "discounts": ""}
    )
    stripe_sandbox.advance(DAY)

    canceled = api.v1.subscriptions.cancel(
        subscription.id, {"prorate": True, "invoice_now": True}
    )

    final = api.v1.invoices.retrieve(canceled.latest_invoice)
    assert (first.total, final.total) == (840, -720)
    assert [tax.amount for tax in final.total_taxes] == [-120]
    assert (final.total_excluding_tax, final.subtotal) == (-600, -600)


def test_a_pending_debit_is_returned_with_the_same_rates(api, stripe_sandbox, weekly):
    rate = builders.tax_rate(api, 20)
    subscription = builders.subscription(api, weekly, default_tax_rates=[rate.id])
    stripe_sandbox.advance(DAY)
    change(api, subscription, quantity=2)
    change(api, subscription, quantity=1)

    stripe_sandbox.advance(6 * DAY + 1)

    invoice = builders.newest_invoice(api, subscription)
    assert invoice.total == 1_680
    assert sum(tax.amount for tax in invoice.total_taxes) == 280
