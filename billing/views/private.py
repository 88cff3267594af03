"""Access and headers of all pages below `/pay/`: their URL is the credential."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from billing.services.invoices.payment_link import verify_token
from caravel.core.web import private_pages
from caravel.core.web.throttling import client_address, throttle

_STRIPE_API = "https://api.stripe.com"
_STRIPE_PORTAL = "https://billing.stripe.com"


def invoice_id_from_token(request: HttpRequest, token: str) -> str:
    """Return the invoice of a link. Raises Throttled, LinkInvalid or LinkExpired."""
    # Before the signature is checked: guessing tokens is throttled as well.
    throttle(settings.API_RATE_PER_ADDRESS, "pay", client_address(request))
    return verify_token(token)


def set_private_headers(response: HttpResponseBase) -> None:
    """Keep the page private; its forms may lead to Stripe's portal."""
    private_pages.set_private_headers(response, form_targets=_portal_origin())


def _portal_origin() -> str:
    """Return the origin of Stripe's customer portal; the sandbox has only one host."""
    parts = urlsplit(settings.STRIPE_API_BASE)
    origin = f"{parts.scheme}://{parts.netloc}"
    return _STRIPE_PORTAL if origin == _STRIPE_API else origin
