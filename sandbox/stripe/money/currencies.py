"""Currencies at Stripe: decimals, minimum charge, charge increment and notation.

Source: https://docs.stripe.com/currencies (zero-decimal and three-decimal currencies,
special cases, minimum charge amounts). The product has a table of its own
(`caravel.core.currencies`): with a shared one no test could notice an error in it.
"""

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
#: Zero-decimal today; Stripe still writes two decimals, which are always 00.
WHOLE_ONLY = frozenset({"isk", "ugx"})
#: In the minor unit, each with its currencies; others have none. Stripe applies the
#: minimum of the bank account's currency.
_MINIMUM_CHARGES = {
    30: "gbp",
    50: "ars aud brl cad chf cop eur idr ils inr jpy krw nzd php rub sgd usd zar",
    100: "bgn",
    200: "aed myr pln ron",
    250: "dkk",
    300: "nok sek",
    400: "hkd",
    1_000: "mxn thb",
    1_500: "czk",
    17_500: "huf",
}
MINIMUM_CHARGE = {
    code: amount for amount, codes in _MINIMUM_CHARGES.items() for code in codes.split()
}
SIGNS = {"eur": "€", "gbp": "£", "jpy": "¥", "usd": "$"}


def decimals(currency: str) -> int:
    """Return the number of decimals of an amount: 1050 with two is 10.50."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def minimum_charge(currency: str) -> int:
    """Return the smallest amount that can be charged, in the minor unit."""
    return MINIMUM_CHARGE.get(currency, 0)


def charge_increment(currency: str) -> int:
    """Return the number that every amount is a multiple of, in the minor unit."""
    if currency in WHOLE_ONLY:
        return 100
    return 10 if currency in THREE_DECIMAL else 1


def text(amount: int, currency: str) -> str:
    """Return an amount in the notation of Stripe's descriptions: `$12.00`, `¥500`."""
    shift = decimals(currency)
    whole, part = divmod(abs(amount), 10**shift)
    number = str(whole)
    if shift and currency not in WHOLE_ONLY:
        number = f"{whole}.{part:0{shift}}"
    minus, sign = "-" if amount < 0 else "", SIGNS.get(currency)
    return f"{minus}{sign}{number}" if sign else f"{minus}{number} {currency.upper()}"
