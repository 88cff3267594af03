"""Formatting of money amounts."""

from decimal import Decimal

from lightning.currencies import exponent

_SIGNS = {"usd": "$", "eur": "€"}


def format_amount(cents: int, currency: str) -> str:
    """Format an amount in minor units: `$5.00`, `€1,200.00`, `5.00 CHF`.

    Raises UnknownCurrency.
    """
    decimals = exponent(currency)
    amount = f"{abs(Decimal(cents)).scaleb(-decimals):,.{decimals}f}"
    sign = _SIGNS.get(currency.lower())
    formatted = f"{sign}{amount}" if sign else f"{amount} {currency.upper()}"
    return f"-{formatted}" if cents < 0 else formatted


def format_price(price: Decimal, currency: str) -> str:
    """Format a price in major units, rounded to the minor unit.

    Raises UnknownCurrency.
    """
    return format_amount(round(price.scaleb(exponent(currency))), currency)
