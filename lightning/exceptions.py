"""What goes wrong between a bill in money and its payment over Lightning."""

from caravel.exceptions import CaravelError, Invalid


class UnknownCurrency(Invalid):
    """Stripe charges in no such currency."""

    code = "currency-unknown"


class PriceUnusable(CaravelError):
    """A source gave no price of bitcoin, or none that can be relied on."""

    code = "price-unusable"
    status = 502


class RateUnavailable(CaravelError):
    """Too few sources agree on a fresh price: there is no quote for now."""

    code = "rate-unavailable"
    status = 503


class InvalidBolt11(Invalid):
    """Not a Lightning invoice as BOLT 11 has it, or not one that was signed."""

    code = "bolt11-invalid"
