"""Currencies at Stripe: charge increment, minimum charge and notation.

Source: docs page "Supported currencies" (special cases, minimum charge amounts).
"""

from billing.clients.stripe.currencies import (
    MINIMUM_CHARGE,
    charge_increment,
    minimum_charge,
)
from lightning.currencies import WHOLE_ONLY, exponent

__all__ = ["MINIMUM_CHARGE", "SIGNS", "charge_increment", "minimum_charge", "text"]

SIGNS = {"eur": "€", "gbp": "£", "jpy": "¥", "usd": "$"}


def text(amount: int, currency: str) -> str:
    """Return an amount in the notation of Stripe's descriptions: `$12.00`, `¥500`."""
    shift = exponent(currency)
    whole, part = divmod(abs(amount), 10**shift)
    number = str(whole)
    if shift and currency not in WHOLE_ONLY:
        number = f"{whole}.{part:0{shift}}"
    minus, sign = "-" if amount < 0 else "", SIGNS.get(currency)
    return f"{minus}{sign}{number}" if sign else f"{minus}{number} {currency.upper()}"
