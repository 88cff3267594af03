"""`/pay/<token>`: a person looks at an invoice and pays it, without a login."""

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
    LinkExpired,
    LinkInvalid,
    UnknownInvoice,
)
from billing.services.customers.portal import card_session
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.payment_page.details import page_details
from billing.services.payment_page.page import CardOption, invoice_page
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

#: How often one invoice's buttons may be pressed.
CLICK_RATE = "10/minute"
_HEADLINES = {
    403: "Once more, please",
    404: "There is no such invoice",
    410: "This link has expired",
    429: "One moment, please",
}
_PASSING = (403, 429, 503)
#: What is for people to read.
_TOLD = (
    AlreadySettled,
    Overloaded,
    CsrfFailed,
    InvoiceChanged,
    InvoiceNotOpen,
    LinkExpired,
    LinkInvalid,
    PaymentInProgress,
    Throttled,
    UnknownInvoice,
)


class TokenView(View):
    """A page that whoever has an invoice's link may see."""

    token: str

    def dispatch(self, request: HttpRequest, token: str) -> HttpResponseBase:
        """Turn away whose link is no good, and keep the page to who has it."""
        self.token = token
        answer: HttpResponseBase
        try:
            answer = super().dispatch(
                request, invoice_id=invoice_id_from_token(request, token)
            )
        except CaravelError as exc:
            answer = _refusal(request, exc)
        set_private_headers(answer)
        return answer

    @property
    def address(self) -> str:
        return reverse("pay", args=[self.token])

    def page(self, invoice_id: str, error: CaravelError | None = None) -> HttpResponse:
        """Return the page of an invoice, with what went wrong if anything did."""
        page = invoice_page(invoice_id)
        content: dict[str, Any] = {
            "page": page,
            "details": page_details(page),
            "token": self.token,
            "brand": settings.ROBOT_NAME,
            "error": _sentence(error) if error and page.is_payable else "",
            "is_back": "back" in self.request.GET,
        }
        status = error.status if error else 200
        answer = render(self.request, "billing/pay.html", content, status=status)
        return _come_back(answer, error)


class PaymentPageView(TokenView):
    """What is billed, and how to pay it."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        return self.page(invoice_id)

    def post(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        """Offer a bolt11, which the page then shows, and shows again."""
        try:
            throttle(CLICK_RATE, "pay-press", invoice_id)
            with concurrency_limit(f"address {client_address(request)}"), interactive():
                get_or_issue_bolt11(invoice_id=invoice_id)
        except CaravelError as exc:
            return self.page(invoice_id, exc)
        return HttpResponseRedirect(self.address)


class CardView(TokenView):
    """`/pay/<token>/card`: on to where Stripe keeps a card for us to charge."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        """Send back who reloads, or shares, where the form has led to."""
        return HttpResponseRedirect(self.address)

    def post(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        if invoice_page(invoice_id).card_option != CardOption.SAVED:
            return HttpResponseRedirect(self.address)
        back = f"{settings.APP_URL}{self.address}?back"
        try:
            throttle(CLICK_RATE, "pay-press", invoice_id)
            with concurrency_limit(f"address {client_address(request)}"), interactive():
                url = card_session(invoice_id=invoice_id, return_url=back)
        except CaravelError as exc:
            return self.page(invoice_id, exc)
        return HttpResponseRedirect(url, status=303)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Answer a form that another site may have sent: a page of ours under `/pay/`."""
    if not request.path.startswith("/pay/"):
        return csrf.csrf_failure(request, reason=reason)
    logger.warning("form_refused", reason=reason)
    told = "Your browser did not send this page’s cookie. Allow it, and try again."
    answer = _refusal(request, CsrfFailed(told))
    set_private_headers(answer)
    return answer


def _refusal(request: HttpRequest, error: CaravelError) -> HttpResponse:
    content = {
        "headline": _HEADLINES.get(error.status, "This is not working just now"),
        "sentence": _sentence(error),
        "is_passing": error.status in _PASSING,
        "brand": settings.ROBOT_NAME,
    }
    answer = render(request, "billing/pay_refused.html", content, status=error.status)
    return _come_back(answer, error)


def _come_back(answer: HttpResponse, error: CaravelError | None) -> HttpResponse:
    if error and error.retry_after:
        answer["Retry-After"] = str(ceil(error.retry_after))
    return answer


def _sentence(error: CaravelError) -> str:
    """Return what a person can do something with; the rest is ours to read."""
    until = getattr(error, "until", None)
    is_ahead = isinstance(until, datetime) and until > timezone.now()
    if isinstance(error, PaymentInProgress) and is_ahead:
        return f"{error.message} Please come back after {until:%H:%M} UTC."
    if isinstance(error, _TOLD):
        return error.message
    logger.warning("payment_not_begun", code=error.code, error=error.message)
    if isinstance(error, RateUnavailable):
        return "There is no exchange rate just now. Please try again in a few minutes."
    return "This is not working just now. Please try again in a few minutes."
