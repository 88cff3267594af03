"""What every answer under `/pay/` has: the address is the key, to be left nowhere."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from billing.services.invoices.payment_link import verify_token
from caravel.core.web.throttling import client_address, throttle

_STRIPE = "https://api.stripe.com"
_PORTAL = "https://billing.stripe.com"


def invoice_id_from_token(request: HttpRequest, token: str) -> str:
    """Return the invoice that a link is for. Raises Throttled or that it is no good."""
    throttle(settings.API_RATE_PER_ADDRESS, "pay", client_address(request))
    return verify_token(token)


def set_private_headers(answer: HttpResponseBase) -> None:
    """Set the headers of a page that only who has its link may see.

    `same-origin`, since a form that is sent without a referrer has the origin «null»,
    which no check against forgery takes.
    """
    answer["Cache-Control"] = "no-store, private"
    answer["Referrer-Policy"] = "same-origin"
    answer["X-Robots-Tag"] = "noindex, nofollow"
    answer["Content-Security-Policy"] = _policy()


def _policy() -> str:
    # Chromium applies form-action to where a form's answer redirects to.
    return (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        f" img-src 'self'; form-action 'self' {portal_origin()};"
        " frame-ancestors 'none'; base-uri 'none'"
    )


def portal_origin() -> str:
    """Return where Stripe's customer portal is: its sandbox has it at the API's."""
    parts = urlsplit(settings.STRIPE_API_BASE)
    origin = f"{parts.scheme}://{parts.netloc}"
    return _PORTAL if origin == _STRIPE else origin
