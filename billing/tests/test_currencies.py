"""The product and the sandbox Stripe have tables of their own, from the same page."""

import pytest

from caravel.core import currencies
from sandbox.stripe.money import currencies as sandbox_currencies


@pytest.mark.parametrize(
    "name",
    ["SUPPORTED", "ZERO_DECIMAL", "THREE_DECIMAL", "WHOLE_ONLY", "MINIMUM_CHARGE"],
)
def test_currency_tables_of_product_and_sandbox_agree(name):
    assert getattr(currencies, name) == getattr(sandbox_currencies, name)


@pytest.mark.parametrize("currency", sorted(currencies.SUPPORTED))
def test_currency_rules_of_product_and_sandbox_agree(currency):
    assert currencies.exponent(currency) == sandbox_currencies.decimals(currency)
    for rule in ("minimum_charge", "charge_increment"):
        product, stand_in = getattr(currencies, rule), getattr(sandbox_currencies, rule)
        assert product(currency) == stand_in(currency)
