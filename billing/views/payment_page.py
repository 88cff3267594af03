"""`/pay/<token>`: view and pay one invoice, without a login."""

from datetime import datetime
from math import ceil
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views import csrf
from django.views.generic import View

from billing.clients.stripe.transport import interactive
from billing.exceptions import (
    CsrfFailed,
    InvoiceChanged,
    InvoiceNotOpen,
    InvoiceNotPaid,
    LinkExpired,
    LinkInvalid,
    UnknownInvoice,
)
from billing.services.customers.portal import card_session
from billing.services.invoices.payment_link import is_expired
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.payment_page.details import page_details
from billing.services.payment_page.page import CardOption, get_page
from billing.services.payment_page.presentation import etag, present
from billing.services.payment_page.saved_card import forget_cards
from billing.views.private import invoice_id_from_token, set_private_headers
from caravel.core.exceptions import CaravelError
from caravel.core.web.throttling import (
    Overloaded,
    Throttled,
    client_address,
    concurrency_limit,
    throttle,
)
from lightning.exceptions import AlreadySettled, PaymentInProgress, RateUnavailable

logger = structlog.get_logger(__name__)

#: Limit for the buttons of one invoice's page.
CLICK_RATE = "10/minute"
_HEADLINES = {
    403: "Please try again",
    404: "There is no such invoice",
    409: "There is no receipt",
    410: "This link has expired",
    429: "One moment, please",
}
_DEFAULT_HEADLINE = "This is not working right now"
_TEMPORARY_STATUSES = (403, 429, 503)
#: Errors whose messages are written for payers. All others are only logged.
_PUBLIC_ERRORS = (
    AlreadySettled,
    Overloaded,
    CsrfFailed,
    InvoiceChanged,
    InvoiceNotOpen,
    InvoiceNotPaid,
    LinkExpired,
    LinkInvalid,
    PaymentInProgress,
    Throttled,
    UnknownInvoice,
)


class TokenView(View):
    """Base of the views that an invoice's link gives access to."""

    token: str

    def dispatch(self, request: HttpRequest, token: str) -> HttpResponseBase:
        self.token = token
        response: HttpResponseBase
        try:
            response = super().dispatch(
                request, invoice_id=invoice_id_from_token(request, token)
            )
        except CaravelError as exc:
            response = _error_page(request, exc)
        set_private_headers(response)
        return response

    @property
    def path(self) -> str:
        return reverse("pay", args=[self.token])

    def page(self, invoice_id: str, error: CaravelError | None = None) -> HttpResponse:
        """Render the invoice's page, with the error's message while it is payable."""
        page = get_page(invoice_id)
        is_back = "back" in self.request.GET
        context: dict[str, Any] = {
            "page": page,
            "texts": present(page),
            "etag": etag(page),
            "details": page_details(page, was_card_added=is_back),
            "token": self.token,
            "leads_to_others": not is_expired(self.token),
            "brand": settings.ROBOT_NAME,
            "error": _user_message(error) if error and page.is_payable else "",
            "retry_at": _until(error),
            "is_back_from_portal": is_back,
        }
        status = error.status if error else 200
        response = render(self.request, "billing/pay.html", context, status=status)
        return _with_retry_after(response, error)


class PaymentPageView(TokenView):
    """`/pay/<token>`: the page, and the button that issues a bolt11."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        return self.page(invoice_id)

    def post(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        try:
            throttle(CLICK_RATE, "pay-press", invoice_id)
            with concurrency_limit(f"address {client_address(request)}"), interactive():
                get_or_issue_bolt11(invoice_id=invoice_id)
        except CaravelError as exc:
            return self.page(invoice_id, exc)
        return HttpResponseRedirect(self.path)


class CardView(TokenView):
    """`/pay/<token>/card`: redirect to Stripe's portal to save a card."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        # A reload, or a shared copy, of the form's address.
        return HttpResponseRedirect(self.path)

    def post(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        page = get_page(invoice_id)
        if page.card_option != CardOption.SAVED:
            return HttpResponseRedirect(self.path)
        return_url = f"{settings.APP_URL}{self.path}?back"
        try:
            throttle(CLICK_RATE, "pay-press", invoice_id)
            with concurrency_limit(f"address {client_address(request)}"), interactive():
                url = card_session(invoice_id=invoice_id, return_url=return_url)
        except CaravelError as exc:
            return self.page(invoice_id, exc)
        forget_cards(page.invoice.stripe_customer_id)
        return HttpResponseRedirect(url, status=303)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Django's CSRF_FAILURE_VIEW, with a page of our own below `/pay/`."""
    if not request.path.startswith("/pay/"):
        return csrf.csrf_failure(request, reason=reason)
    logger.warning("form_refused", reason=reason)
    message = (
        "Your browser did not send this page’s cookie."
        " Please allow cookies for this page and try again."
    )
    response = _error_page(request, CsrfFailed(message))
    # Django's middleware calls this instead of a view, so no TokenView has set them.
    set_private_headers(response)
    return response


def _error_page(request: HttpRequest, error: CaravelError) -> HttpResponse:
    context = {
        "headline": _HEADLINES.get(error.status, _DEFAULT_HEADLINE),
        "message": _user_message(error),
        "is_temporary": error.status in _TEMPORARY_STATUSES,
        "brand": settings.ROBOT_NAME,
    }
    response = render(request, "billing/pay_refused.html", context, status=error.status)
    return _with_retry_after(response, error)


def _with_retry_after(
    response: HttpResponse, error: CaravelError | None
) -> HttpResponse:
    if error and error.retry_after:
        response["Retry-After"] = str(ceil(error.retry_after))
    return response


def _until(error: CaravelError | None) -> datetime | None:
    """Return when a payment that is in progress ends, None if unknown or past."""
    until = error.until if isinstance(error, PaymentInProgress) else None
    return until if until and until > timezone.now() else None


def _user_message(error: CaravelError) -> str:
    """Return a message that the payer can act on; internal errors are only logged."""
    if isinstance(error, _PUBLIC_ERRORS):
        return error.message
    logger.warning("payment_not_begun", code=error.code, error=error.message)
    if isinstance(error, RateUnavailable):
        return "There is no exchange rate right now. Please try again in a few minutes."
    return "This is not working right now. Please try again in a few minutes."
