"""Discounts and taxes: what an invoice line costs, and what a credit returns."""

from typing import Any

import pytest
import stripe

from sandbox.tests.support.stripe import contract_builders
from sandbox.tests.support.stripe.contract_account import Account
from sandbox.tests.support.stripe.contract_builders import DAY


def coupon(account: Account, **params: Any) -> dict[str, str]:
    """Return an entry of `discounts` with a new coupon, by default of 50 % forever."""
    kind = {} if "amount_off" in params else {"percent_off": 50}
    fields: Any = {"duration": "forever", **kind, **params}
    return {"coupon": account.api.v1.coupons.create(fields).id}


def tax_rate(account: Account, *, inclusive: bool = False) -> str:
    """Return the id of a new tax rate of 20 %."""
    return account.api.v1.tax_rates.create(
        {"display_name": "VAT", "inclusive": inclusive, "percentage": 20}
    ).id


def latest_invoice(account: Account, subscription: Any) -> Any:
    """Return the latest invoice of a subscription as it is now."""
    current = account.api.v1.subscriptions.retrieve(subscription.id)
    return account.api.v1.invoices.retrieve(str(current.latest_invoice))


def discounts_of(account: Account, subscription: Any) -> Any:
    """Return the ids of a subscription's discounts as they are now."""
    return account.api.v1.subscriptions.retrieve(subscription.id).discounts


def discounted(line: Any) -> int:
    """Return the cost of a line after its discounts."""
    taken = sum(int(entry.amount) for entry in line.discount_amounts)
    return int(line.amount) - taken


def change_quantity(account: Account, subscription: Any, quantity: int) -> list[Any]:
    """Change the only item and return the pending prorations, credits first."""
    item = subscription["items"].data[0].id
    account.api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item, "quantity": quantity}]}
    )
    pending = contract_builders.pending(account, subscription.customer)
    return sorted(pending, key=lambda item: item.amount)


def test_the_discount_of_a_line_is_in_its_discount_amounts(account, price):
    subscription = contract_builders.subscription(
        account, price, discounts=[coupon(account)]
    )

    invoice = latest_invoice(account, subscription)

    (line,) = invoice.lines.data
    assert (line.amount, discounted(line)) == (1_000, 500)
    assert (invoice.subtotal, invoice.total) == (1_000, 500)
    assert invoice.discounts == subscription.discounts


def test_a_coupon_of_an_amount_is_spread_exactly_over_the_lines(account):
    prices = [
        contract_builders.monthly_price(account, amount) for amount in (333, 333, 334)
    ]
    off = coupon(account, amount_off=100, currency="usd")
    subscription = contract_builders.subscription(account, *prices, discounts=[off])

    invoice = latest_invoice(account, subscription)

    assert sum(discounted(line) for line in invoice.lines.data) == invoice.total == 900
    assert all(
        300 <= discounted(line) <= line.amount - 33 for line in invoice.lines.data
    )


def test_taxes_of_a_line_are_on_its_amount_after_discounts(account, price):
    subscription = contract_builders.subscription(
        account,
        price,
        discounts=[coupon(account)],
        default_tax_rates=[tax_rate(account)],
    )

    invoice = latest_invoice(account, subscription)

    (tax,) = invoice.lines.data[0].taxes
    assert (tax.amount, tax.taxable_amount, tax.tax_behavior) == (
        100,
        500,
        "exclusive",
    )
    assert (invoice.total, invoice.total_excluding_tax) == (600, 500)


def test_an_inclusive_tax_is_part_of_the_amount(account):
    price = contract_builders.monthly_price(account, 1_200)
    subscription = contract_builders.subscription(
        account, price, default_tax_rates=[tax_rate(account, inclusive=True)]
    )

    invoice = latest_invoice(account, subscription)

    (tax,) = invoice.lines.data[0].taxes
    assert (tax.amount, tax.taxable_amount, tax.tax_behavior) == (
        200,
        1_000,
        "inclusive",
    )
    assert (invoice.total, invoice.total_excluding_tax) == (1_200, 1_000)


def test_a_coupon_for_one_invoice_is_consumed_by_the_first(account, price):
    subscription = contract_builders.subscription(
        account, price, discounts=[coupon(account, duration="once")]
    )

    assert latest_invoice(account, subscription).total == 500
    assert discounts_of(account, subscription) == []


def test_a_repeating_coupon_ends_after_its_months(account, price):
    monthly = coupon(account, duration="repeating", duration_in_months=1)
    subscription = contract_builders.subscription(account, price, discounts=[monthly])
    expand: Any = {"expand": ["discounts"]}
    details: Any = account.api.v1.subscriptions.retrieve(subscription.id, expand)
    first = latest_invoice(account, subscription)

    account.advance(32 * DAY)

    assert details.discounts[0].end > account.now() - 5 * DAY
    assert (first.total, latest_invoice(account, subscription).total) == (500, 1_000)
    assert discounts_of(account, subscription) == []


def test_a_coupon_id_can_be_used_once(account):
    terms: Any = {"id": f"copy-{account.now()}", "percent_off": 5, "duration": "once"}
    created = account.api.v1.coupons.create(terms)

    with pytest.raises(stripe.InvalidRequestError) as refusal:
        account.api.v1.coupons.create(terms)

    assert created.id == terms["id"]
    assert refusal.value.code == "resource_already_exists"
    account.api.v1.coupons.delete(created.id)


def test_a_deleted_coupon_is_a_404_and_its_discounts_go_on(account, price):
    entry = coupon(account)
    subscription = contract_builders.subscription(account, price, discounts=[entry])
    account.api.v1.coupons.delete(entry["coupon"])

    with pytest.raises(stripe.InvalidRequestError) as refusal:
        account.api.v1.coupons.retrieve(entry["coupon"])

    assert refusal.value.http_status == 404
    assert discounts_of(account, subscription) == subscription.discounts


def test_a_coupon_without_products_has_no_applies_to(account):
    expand: Any = {"expand": ["applies_to"]}

    found = account.api.v1.coupons.retrieve(coupon(account)["coupon"], expand)

    assert getattr(found, "applies_to", None) is None


def test_discounts_are_removed_with_an_empty_string(account, price):
    subscription = contract_builders.subscription(
        account, price, discounts=[coupon(account)]
    )

    account.api.v1.subscriptions.update(subscription.id, {"discounts": ""})

    assert discounts_of(account, subscription) == []


def test_a_discount_cannot_be_reused_on_another_subscription(account, price):
    payer = account.customer()
    old = contract_builders.subscription(
        account, price, to=payer, discounts=[coupon(account)]
    )

    with pytest.raises(stripe.InvalidRequestError):
        contract_builders.subscription(
            account, price, to=payer, discounts=[{"discount": old.discounts[0]}]
        )


def test_a_credit_returns_the_price_after_discounts(account, price):
    subscription = contract_builders.subscription(
        account, price, discounts=[coupon(account)]
    )
    contract_builders.first_invoice(account, subscription)
    account.api.v1.subscriptions.update(subscription.id, {"discounts": ""})

    credit, debit = change_quantity(account, subscription, 2)

    assert -500 <= credit.amount <= -499
    assert 1_998 <= debit.amount <= 2_000


def test_a_debit_includes_its_discount_and_lists_it_with_zero(account, price):
    subscription = contract_builders.subscription(
        account, price, discounts=[coupon(account)]
    )

    _, debit = change_quantity(account, subscription, 3)

    assert 1_498 <= debit.amount <= 1_500
    (included,) = debit.proration_details.discount_amounts
    assert (included.amount, [included.discount]) == (0, subscription.discounts)


def test_a_credit_has_the_tax_rates_of_its_debit(account, price):
    subscription = contract_builders.subscription(
        account, price, default_tax_rates=[tax_rate(account)]
    )
    contract_builders.first_invoice(account, subscription)
    account.api.v1.subscriptions.update(subscription.id, {"default_tax_rates": ""})

    canceled = account.api.v1.subscriptions.cancel(
        subscription.id, {"prorate": True, "invoice_now": True}
    )

    final: Any = account.api.v1.invoices.retrieve(str(canceled.latest_invoice))
    assert -1_200 <= final.total <= -1_198
    assert -200 <= sum(tax.amount for tax in final.total_taxes) <= -199


def test_a_pause_returns_the_price_after_discounts_with_its_tax(account, price):
    payer, rate = account.customer(), tax_rate(account)
    card = account.api.v1.payment_methods.attach("pm_card_visa", {"customer": payer.id})
    params: Any = {
        "customer": payer.id,
        "items": [{"price": price.id}],
        "billing_mode": {"type": "flexible"},
        "default_payment_method": card.id,
        "default_tax_rates": [rate],
        "discounts": [coupon(account)],
    }
    subscription = account.api.v1.subscriptions.create(params)
    account.advance(10 * DAY)

    account.api.v1.subscriptions.pause(subscription.id)

    (credit,) = contract_builders.pending(account, payer.id)
    assert -350 < credit.amount < -300
    assert [applied.id for applied in credit.tax_rates or ()] == [rate]


def test_the_amount_of_a_credit_note_includes_tax(account, price):
    subscription = contract_builders.subscription(
        account, price, default_tax_rates=[tax_rate(account)]
    )
    invoice = contract_builders.first_invoice(account, subscription)

    note = account.api.v1.credit_notes.create({"invoice": invoice.id, "amount": 1_200})

    after = account.api.v1.invoices.retrieve(invoice.id)
    assert (note.amount, note.total) == (1_200, 1_200)
    assert (after.status, after.amount_remaining) == ("paid", 0)
