"""The `Stripe-Version` header (docs: API reference, Versioning)."""

from sandbox.stripe import API_VERSION
from sandbox.stripe.protocol.errors import StripeError
from sandbox.stripe.protocol.http import Request


def check(request: Request) -> None:
    """Raise a 400 when another version is asked for than the sandbox speaks.

    Stripe refuses what is no version in these words. One of its other versions it would
    answer in; objects of this version would not be what such a client expects, so the
    sandbox refuses that as well rather than to mislead it.
    """
    version = request.headers.get("stripe-version", API_VERSION)
    if version != API_VERSION:
        raise StripeError(
            400,
            f"Invalid Stripe API version: {version}. The sandbox speaks {API_VERSION} "
            "only: leave the Stripe-Version header out, or use an SDK of that version.",
            stored=False,
        )
