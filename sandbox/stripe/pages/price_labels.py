"""Names and sums of an invoice's discounts and taxes, for all pages."""

from typing import NamedTuple

from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.store.records import Record, Store


class Sum(NamedTuple):
    """Row between the subtotal and the total of an invoice."""

    label: str
    amount: int
    is_included: bool = False


def discount(store: Store, id: str) -> str:
    """Return the name of a discount's coupon and what it takes off: "Half (50 % off)".

    An amount is left out: the invoice shows it.
    """
    coupon = (store.get(discounts.KIND, id) or {})["_coupon"]
    percent = coupon["percent_off"]
    name = str(coupon["name"] or coupon["id"])
    return f"{name} ({percent:g} % off)" if percent else name


def between_subtotal_and_total(store: Store, invoice: Record) -> list[Sum]:
    """Return the discounts and taxes of an invoice."""
    return [
        *(
            Sum(discount(store, entry["discount"]), -entry["amount"])
            for entry in invoice["total_discount_amounts"]
            if entry["amount"]
        ),
        *(_tax(store, tax) for tax in invoice["total_taxes"]),
    ]


def _tax(store: Store, tax: Record) -> Sum:
    rate = store.get(tax_rates.KIND, tax["tax_rate_details"]["tax_rate"]) or {}
    included = tax["tax_behavior"] == "inclusive"
    label = f"{rate['display_name']} {rate['percentage']:g} %"
    suffix = " (included)" if included else ""
    return Sum(label + suffix, tax["amount"], included)
