"""Stripe's currencies: decimals, minimum charges, and increments of amounts.

Source: https://docs.stripe.com/currencies (zero-decimal and three-decimal currencies,
special cases, minimum charge amounts). HUF and TWD are special in payouts only.
"""

from caravel.core.exceptions import UnknownCurrency

_CODES = """
aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd
bwp byn bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp
gbp gel gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs
khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk
mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub
rwf sar sbd scr sek sgd shp sle sos srd std svc szl thb tjs tnd top try ttd twd tzs
uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar zmw
"""
SUPPORTED = frozenset(_CODES.split())
_ZERO_DECIMAL_CODES = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
ZERO_DECIMAL = frozenset(_ZERO_DECIMAL_CODES.split())
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
#: Currencies without decimals whose amounts still have two in the API, always 00.
WHOLE_ONLY = frozenset({"isk", "ugx"})
#: In the minor unit. Stripe applies the minimum of the bank account's currency; here
#: each currency has its own, or none if it is not listed.
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


def exponent(currency: str) -> int:
    """Return the number of decimals of an amount: 1050 with two is 10.50.

    The code may be in either case. Raises UnknownCurrency.
    """
    code = currency.lower()
    if code not in SUPPORTED:
        raise UnknownCurrency(f"Unknown currency: {currency[:8]!r}.")
    if code in ZERO_DECIMAL:
        return 0
    return 3 if code in THREE_DECIMAL else 2


def minimum_charge(currency: str) -> int:
    """Return the smallest amount that can be charged, in the minor unit."""
    return MINIMUM_CHARGE.get(currency, 0)


def charge_increment(currency: str) -> int:
    """Return the increment of amounts in the minor unit: 100 allows 100, 200, 300."""
    if currency in WHOLE_ONLY:
        return 100
    return 10 if currency in THREE_DECIMAL else 1
