"""What Stripe takes as an amount: the smallest charge, and the steps, by currency.

Source: https://docs.stripe.com/currencies (minimum charge amounts, special cases).
"""

from lightning.currencies import THREE_DECIMAL, WHOLE_ONLY

# In the minor unit. Which one applies depends on the currency of the bank account:
# here each is taken as its own, and one without an entry has none.
MINIMUM_CHARGE = {
    "aed": 200,
    "ars": 50,
    "aud": 50,
    "bgn": 100,
    "brl": 50,
    "cad": 50,
    "chf": 50,
    "cop": 50,
    "czk": 1_500,
    "dkk": 250,
    "eur": 50,
    "gbp": 30,
    "hkd": 400,
    "huf": 17_500,
    "idr": 50,
    "ils": 50,
    "inr": 50,
    "jpy": 50,
    "krw": 50,
    "mxn": 1_000,
    "myr": 200,
    "nok": 300,
    "nzd": 50,
    "php": 50,
    "pln": 200,
    "ron": 200,
    "rub": 50,
    "sek": 300,
    "sgd": 50,
    "thb": 1_000,
    "usd": 50,
    "zar": 50,
}


def minimum_charge(currency: str) -> int:
    """Return the smallest amount that is charged, in the minor unit."""
    return MINIMUM_CHARGE.get(currency, 0)


def charge_increment(currency: str) -> int:
    """Return what each amount must be a multiple of, in the minor unit."""
    if currency in WHOLE_ONLY:
        return 100
    return 10 if currency in THREE_DECIMAL else 1
