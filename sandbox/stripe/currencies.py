"""What Stripe says of each currency: steps, smallest charge, how it is written.

Source: docs page "Supported currencies" (special cases, minimum charge amounts).
"""

from lightning.currencies import THREE_DECIMAL, WHOLE_ONLY, exponent

# In the currency's smallest unit. Which one applies depends on the currency of the
# bank account; here each is taken as its own, and one without an entry has none.
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
SIGNS = {"eur": "€", "gbp": "£", "jpy": "¥", "usd": "$"}


def step(currency: str) -> int:
    """Return what an amount must be a multiple of to be charged."""
    if currency in WHOLE_ONLY:
        return 100
    return 10 if currency in THREE_DECIMAL else 1


def minimum_charge(currency: str) -> int:
    """Return the smallest amount that is charged; less is carried to the balance."""
    return MINIMUM_CHARGE.get(currency, 0)


def text(amount: int, currency: str) -> str:
    """Return an amount as Stripe writes it in descriptions: `$12.00`, `¥500`."""
    shift = exponent(currency)
    whole, part = divmod(abs(amount), 10**shift)
    shown = str(whole)
    if shift and currency not in WHOLE_ONLY:
        shown = f"{whole}.{part:0{shift}}"
    minus, sign = "-" if amount < 0 else "", SIGNS.get(currency)
    return f"{minus}{sign}{shown}" if sign else f"{minus}{shown} {currency.upper()}"
