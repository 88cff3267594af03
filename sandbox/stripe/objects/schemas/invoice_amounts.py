"""Amounts of invoices and their lines: discounts, taxes and totals.

Sources: SDK types Invoice and InvoiceLineItem. Discounts reduce the taxable amount;
exclusive tax is added to it, inclusive tax is part of it:
https://support.stripe.com/questions/inclusive-and-exclusive-tax-options-in-the-tax-rate-api-and-stripe-tax
An account rounds each tax on its line, or its sum over all lines ("round off manually
entered tax rates before or after calculating subtotals"):
https://pay.wpmarmite.com/docs/configuring-your-invoices-in-stripe/

The amount of a proration already includes its discounts, which it lists with 0
(`proration_discounts=included`, the default):
https://docs.stripe.com/changelog/clover/2025-09-30/itemize-proration-discount-amounts
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from sandbox.stripe import settings
from sandbox.stripe.money import currencies
from sandbox.stripe.money.rounding import (
    AmountDue,
    apply_balance,
    round_half_away,
    round_together,
)
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.store.records import Record, Store

Line = dict[str, Any]


def calculate(store: Store, invoice: dict[str, Any]) -> None:
    """Set the discounts, taxes and totals of a draft and its lines."""
    lines = invoice["_lines"]
    _discount(store, lines, invoice["discounts"])
    rates = [_rates_of(store, invoice, line) for line in lines]
    amounts = [line["amount"] for line in lines]
    before_discounts = sum_taxes(_taxes(store, amounts, rates))
    nets = [net_amount(line) for line in lines]
    for line, taxes in zip(lines, _taxes(store, nets, rates), strict=True):
        line["taxes"] = taxes
    total_taxes = sum_taxes(line["taxes"] for line in lines)
    subtotal, net = sum(amounts), sum(nets)
    inclusive = _inclusive(total_taxes)
    all_taxes = sum(tax["amount"] for tax in total_taxes)
    total_discounts = _sum_discounts(invoice["discounts"], lines)
    invoice.update(
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal - _inclusive(before_discounts),
        total=net + all_taxes - inclusive,
        total_discount_amounts=total_discounts,
        total_excluding_tax=net - inclusive,
        total_pretax_credit_amounts=_pretax_credits(total_discounts),
        total_taxes=total_taxes,
    )


def due(invoice: Record, balance: int) -> dict[str, int]:
    """Return the amounts of a draft that depend on the customer's balance."""
    due = compute_amount_due(invoice["total"], balance, invoice["currency"]).amount_due
    return {"amount_due": due, "amount_remaining": due, "starting_balance": balance}


def compute_amount_due(total: int, balance: int, currency: str) -> AmountDue:
    """Apply the balance to a total, respecting the currency's minimum charge."""
    minimum = currencies.minimum_charge(currency)
    return apply_balance(total=total, balance=balance, minimum=minimum)


def net_amount(line: Record) -> int:
    """Return the amount of a line after discounts, with inclusive taxes only."""
    taken = sum(int(entry["amount"]) for entry in line["discount_amounts"])
    return int(line["amount"]) - taken


def tax_rates_of(line: Record) -> list[str]:
    """Return the ids of the tax rates with which a line is taxed."""
    return [tax["tax_rate_details"]["tax_rate"] for tax in line["taxes"]]


def sum_taxes(taxes: Iterable[Sequence[Record]]) -> list[dict[str, Any]]:
    """Return the sums of these taxes by tax rate."""
    sums: dict[str, dict[str, Any]] = {}
    for tax in (tax for of_line in taxes for tax in of_line):
        total = sums.setdefault(
            tax["tax_rate_details"]["tax_rate"],
            {**tax, "amount": 0, "taxable_amount": 0},
        )
        total["amount"] += tax["amount"]
        total["taxable_amount"] += tax["taxable_amount"]
    return list(sums.values())


def is_exclusive(tax: Record) -> bool:
    """Return whether a tax is added to the price."""
    return bool(tax["tax_behavior"] == "exclusive")


def _discount(store: Store, lines: Sequence[Line], ids: Sequence[str]) -> None:
    discountable = [line for line in lines if line["discountable"]]
    taken = discounts.shares(store, ids, [line["amount"] for line in discountable])
    for line in lines:
        line["discount_amounts"] = unapplied(line["_included_discounts"])
    for id, shares in taken.items():
        for line, share in zip(discountable, shares, strict=True):
            line["discount_amounts"].append({"amount": share, "discount": id})
    for line in lines:
        line["pretax_credit_amounts"] = _pretax_credits(line["discount_amounts"])


def unapplied(ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the discounts that the amount of a proration includes, each with 0."""
    return [{"amount": 0, "discount": id} for id in ids]


def _sum_discounts(ids: Sequence[str], lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the sum of each discount over all lines, without those of prorations."""
    return [
        {
            "amount": sum(
                entry["amount"]
                for line in lines
                for entry in line["discount_amounts"]
                if entry["discount"] == id
            ),
            "discount": id,
        }
        for id in ids
    ]


def _pretax_credits(amounts: Sequence[Record]) -> list[dict[str, Any]]:
    return [{**entry, "type": "discount"} for entry in amounts if entry["amount"]]


def _rates_of(store: Store, invoice: Record, line: Record) -> list[Record]:
    """Return the tax rates of a line: its own, or else the invoice's defaults."""
    own = line["_tax_rates"]
    ids = invoice["_default_tax_rates"] if own is None else own
    return [store.get(tax_rates.KIND, id) or {} for id in ids]


def _taxes(
    store: Store, amounts: Sequence[int], rates: Sequence[Sequence[Record]]
) -> list[list[dict[str, Any]]]:
    """Return the taxes of each line on its amount, which includes inclusive ones.

    Exclusive rates apply to the amount without inclusive taxes (assumed).
    """
    if not any(rates):
        return [[] for _ in amounts]
    together = settings.read(store).tax_rounding == "invoice"
    divisors = [100 + _inclusive_percentage(of_line) for of_line in rates]
    included = _amounts(amounts, rates, divisors, inclusive=True, together=together)
    nets = [
        amount - sum(taxes.values())
        for amount, taxes in zip(amounts, included, strict=True)
    ]
    hundreds = [Fraction(100)] * len(nets)
    added = _amounts(nets, rates, hundreds, inclusive=False, together=together)
    return [
        [_tax(rate, nets[n], (included[n] | added[n])[rate["id"]]) for rate in rates[n]]
        for n in range(len(nets))
    ]


def _amounts(
    amounts: Sequence[int],
    rates: Sequence[Sequence[Record]],
    divisors: Sequence[Fraction],
    *,
    inclusive: bool,
    together: bool,
) -> list[dict[str, int]]:
    """Return the rounded taxes of each line by tax rate."""
    exact: dict[str, dict[int, Fraction]] = {}
    for n, of_line in enumerate(rates):
        for rate in of_line:
            if rate["inclusive"] is inclusive:
                share = tax_rates.percentage(rate) / divisors[n]
                exact.setdefault(rate["id"], {})[n] = amounts[n] * share
    taxes: list[dict[str, int]] = [{} for _ in amounts]
    for id, by_line in exact.items():
        numbers = list(by_line.values())
        rounded = round_together(numbers) if together else map(round_half_away, numbers)
        for n, amount in zip(by_line, rounded, strict=True):
            taxes[n][id] = amount
    return taxes


def _inclusive_percentage(rates: Sequence[Record]) -> Fraction:
    percentages = (tax_rates.percentage(rate) for rate in rates if rate["inclusive"])
    return sum(percentages, Fraction())


def _tax(rate: Record, taxable_amount: int, amount: int) -> dict[str, Any]:
    return {
        "amount": amount,
        "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": rate["id"]},
        # As in the reference's example of a tax rate that was set by hand.
        "taxability_reason": "not_available",
        "taxable_amount": taxable_amount,
        "type": "tax_rate_details",
    }


def _inclusive(taxes: Sequence[Record]) -> int:
    return sum(tax["amount"] for tax in taxes if not is_exclusive(tax))
