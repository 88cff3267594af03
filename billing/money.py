"""Amounts of money as people write them."""

from decimal import Decimal

from caravel.core.currencies import exponent

_SIGNS = {"usd": "$", "eur": "€"}


def format_amount(cents: int, currency: str) -> str:
    """Return an amount in minor units in words: `$5.00`, `€1,200.00`, `5.00 CHF`.

    Raises UnknownCurrency.
    """
    decimals = exponent(currency)
    amount = f"{abs(Decimal(cents)).scaleb(-decimals):,.{decimals}f}"
    sign = _SIGNS.get(currency.lower())
    written = f"{sign}{amount}" if sign else f"{amount} {currency.upper()}"
    return f"-{written}" if cents < 0 else written


def format_price(price: Decimal, currency: str) -> str:
    """Return a price in the currency's whole unit in words, rounded to its minor one.

    Raises UnknownCurrency.
    """
    return format_amount(round(price.scaleb(exponent(currency))), currency)
