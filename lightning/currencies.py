"""The currencies that Stripe charges in, and how many decimals an amount has.

Source: https://docs.stripe.com/currencies (zero-decimal and three-decimal currencies,
special cases). HUF and TWD are special in payouts only.
"""

from lightning.exceptions import UnknownCurrency

CODES = """
aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd
bwp byn bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp
gbp gel gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs
khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk
mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub
rwf sar sbd scr sek sgd shp sle sos srd std svc szl thb tjs tnd top try ttd twd tzs
uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar zmw
"""
SUPPORTED = frozenset(CODES.split())
ZERO_CODES = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
ZERO_DECIMAL = frozenset(ZERO_CODES.split())
THREE_DECIMAL = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
# Zero-decimal by now, but still written with two decimals that are always 00.
WHOLE_ONLY = frozenset(("isk", "ugx"))


def exponent(currency: str) -> int:
    """Return how many decimals an amount of Stripe's has: 1050 with two is 10.50.

    The code may be in either case. Raises UnknownCurrency.
    """
    code = currency.lower()
    if code not in SUPPORTED:
        raise UnknownCurrency(f"Unknown currency: {currency[:8]!r}.")
    if code in ZERO_DECIMAL:
        return 0
    return 3 if code in THREE_DECIMAL else 2
