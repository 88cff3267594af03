"""The table of Stripe's currencies."""

import pytest

from caravel.core import currencies
from caravel.core.currencies import exponent
from caravel.core.exceptions import UnknownCurrency


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [
        ("usd", 2),
        ("EUR", 2),
        ("jpy", 0),
        ("KRW", 0),
        ("kwd", 3),
        ("tnd", 3),
        # No coins below one, but the amounts of Stripe's API have two decimals.
        ("isk", 2),
        ("ugx", 2),
        # Special in payouts only.
        ("huf", 2),
        ("twd", 2),
    ],
)
def test_exponent_is_the_number_of_decimals_in_stripe(currency, decimals):
    assert exponent(currency) == decimals


@pytest.mark.parametrize(
    "currency", ["xxx", "", "us", "usd ", "btc", "\u0395UR", "\u017fek"]
)
def test_exponent_raises_for_an_unknown_currency(currency):
    with pytest.raises(UnknownCurrency) as caught:
        exponent(currency)

    assert (caught.value.code, caught.value.status) == ("currency-unknown", 422)


def test_special_currency_lists_are_disjoint_and_supported():
    lists = (currencies.ZERO_DECIMAL, currencies.THREE_DECIMAL, currencies.WHOLE_ONLY)

    assert all(each <= currencies.SUPPORTED for each in lists)
    assert sum(map(len, lists)) == len(frozenset().union(*lists))
    assert all(len(code) == 3 for code in currencies.SUPPORTED)
