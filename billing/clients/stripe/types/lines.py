"""Lines of invoices and items pending for them, with their taxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from billing.clients.stripe.types.fields import optional, optional_text, read_id


@dataclass(frozen=True)
class TaxRate:
    """A tax rate; an `inclusive` one is part of the price."""

    id: str
    percentage: str
    inclusive: bool


@dataclass(frozen=True)
class Line:
    """A line of an invoice, or an item pending for the next one.

    `discount` is not in the amount yet, nor is `tax`, the exclusive taxes. `item` is
    the id of its invoice item, "" if it has none.
    """

    id: str
    amount: int
    price: str
    quantity: int
    period_start: int
    period_end: int
    proration: bool
    description: str = ""
    discount: int = 0
    tax: int = 0
    item: str = ""

    @property
    def cost(self) -> int:
        """The price of the line: its amount after discounts, with taxes."""
        return self.amount - self.discount + self.tax


def read_line(found: Any) -> Line:
    """Return a line of an invoice, with its discounts and exclusive taxes."""
    details = optional(found, "parent", "subscription_item_details")
    item_details = details or optional(found, "parent", "invoice_item_details")
    taxes = optional(found, "taxes") or ()
    return _line(
        found,
        proration=bool(optional(details, "proration")),
        discount=sum(each.amount for each in optional(found, "discount_amounts") or ()),
        tax=sum(tax.amount for tax in taxes if tax.tax_behavior == "exclusive"),
        item=read_id(optional(item_details, "invoice_item")),
    )


def read_pending_item(
    found: Any, default_tax_rates: Sequence[TaxRate] = ()
) -> tuple[str, Line]:
    """Return the subscription that an item is pending for, "" if none, and its line.

    A pending item has no taxes yet: its line has those that it would be billed with.
    """
    subscription = optional(found, "parent", "subscription_details", "subscription")
    rates = read_tax_rates(optional(found, "tax_rates")) or default_tax_rates
    tax = _exclusive_tax(found.amount, rates)
    line = _line(found, proration=found.proration, tax=tax, item=found.id)
    return read_id(subscription), line


def read_tax_rates(found: Any) -> tuple[TaxRate, ...]:
    """Return the tax rates in a list, none if Stripe left it out."""
    return tuple(
        TaxRate(each.id, str(each.percentage), each.inclusive) for each in found or ()
    )


def _line(
    found: Any, *, proration: bool, discount: int = 0, tax: int = 0, item: str = ""
) -> Line:
    return Line(
        id=found.id,
        amount=found.amount,
        price=read_id(optional(found, "pricing", "price_details", "price")),
        quantity=optional(found, "quantity") or 0,
        period_start=found.period.start,
        period_end=found.period.end,
        proration=proration,
        description=optional_text(found, "description"),
        discount=discount,
        tax=tax,
        item=item,
    )


def _exclusive_tax(amount: int, rates: Sequence[TaxRate]) -> int:
    """Return the taxes that are added to an amount, each rounded by itself."""
    inclusive = [_percentage(rate) for rate in rates if rate.inclusive]
    net = amount / (1 + sum(inclusive, Fraction()))
    exclusive = [_percentage(rate) for rate in rates if not rate.inclusive]
    return sum(_round_half_away(net * percentage) for percentage in exclusive)


def _round_half_away(amount: Fraction) -> int:
    rounded = int(abs(amount) + Fraction(1, 2))
    return rounded if amount > 0 else -rounded


def _percentage(rate: TaxRate) -> Fraction:
    return Fraction(rate.percentage) / 100
