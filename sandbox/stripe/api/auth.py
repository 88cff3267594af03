"""API keys and versions (docs: API reference, Authentication and Versioning)."""

import base64
import binascii

from sandbox.common.http import Request
from sandbox.stripe import API_VERSION
from sandbox.stripe.api.errors import StripeError

PREFIXES = ("sk_test_", "rk_test_")
NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the "
    "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer "
    "YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or "
    "we can help at https://support.stripe.com/."
)


def check_key(request: Request, expected: str | None) -> None:
    """Raise a 401 unless the request has a test key, or the `expected` key if set."""
    key = get_key(request)
    if not key:
        raise StripeError(401, NO_KEY, stored=False)
    accepted = key == expected if expected else key.startswith(PREFIXES)
    if not accepted:
        raise StripeError(401, f"Invalid API Key provided: {_mask(key)}", stored=False)


def check_version(request: Request) -> None:
    """Raise a 400 unless the request uses the sandbox's API version.

    Stripe supports its other versions too; objects of the sandbox have one format.
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


def is_live(key: str | None) -> bool:
    """Return whether a key is one of the live mode."""
    return (key or "").startswith(("sk_live_", "rk_live_"))


def get_key(request: Request) -> str:
    """Return the API key of a request, or an empty string."""
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    # Basic authentication: the key is the user name (`curl -u sk_test_…:`).
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return value.strip() if scheme.lower() == "bearer" else ""


def _mask(key: str) -> str:
    """Return the key as in Stripe's errors: its prefix and the last four characters."""
    prefix = key[:8] if key.startswith(PREFIXES) else key[:3]
    return f"{prefix}{'*' * 12}{key[-4:]}"
