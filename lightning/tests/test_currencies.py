import pytest

from lightning import currencies
from lightning.currencies import exponent
from lightning.exceptions import UnknownCurrency


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
def test_an_amount_has_the_decimals_that_stripe_says(currency, decimals):
    assert exponent(currency) == decimals


@pytest.mark.parametrize(
    "currency", ["xxx", "", "us", "usd ", "btc", "\u0395UR", "\u017fek"]
)
def test_an_unknown_currency_is_refused(currency):
    with pytest.raises(UnknownCurrency) as caught:
        exponent(currency)

    assert (caught.value.code, caught.value.status) == ("currency-unknown", 422)


def test_the_special_lists_name_supported_currencies_and_no_one_twice():
    lists = (currencies.ZERO_DECIMAL, currencies.THREE_DECIMAL, currencies.WHOLE_ONLY)

    assert all(each <= currencies.SUPPORTED for each in lists)
    assert sum(map(len, lists)) == len(frozenset().union(*lists))
    assert all(len(code) == 3 for code in currencies.SUPPORTED)
