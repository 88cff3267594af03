"""The `Stripe-Version` header (docs: API reference, Versioning)."""

from sandbox.common.http import Request
from sandbox.stripe import API_VERSION
from sandbox.stripe.api.errors import StripeError


def check(request: Request) -> None:
    """Raise a 400 unless the request uses the sandbox's API version.

    Stripe rejects unknown versions with this message and supports its other versions.
    The sandbox rejects those too, since its objects have the format of one version.
    """
    version = request.headers.get("stripe-version", API_VERSION)
    if version != API_VERSION:
        raise StripeError(
            400,
            f"Invalid Stripe API version: {version}. The sandbox supports "
            f"{API_VERSION} only: omit the Stripe-Version header, or use an SDK of "
            "that version.",
            stored=False,
        )
