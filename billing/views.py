from datetime import datetime

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.generic import View
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.exceptions import BodyTooLarge, InvoiceNotOpen
from billing.services.links import read_token
from billing.services.offers import offer_bolt11
from billing.services.pages import invoice_page
from billing.services.webhooks import record_event
from billing.tasks import process_stripe_event
from caravel.api import AlwaysJson, success
from caravel.exceptions import CaravelError
from lightning.exceptions import AlreadySettled, PaymentInProgress

logger = structlog.get_logger(__name__)


class StripeWebhookView(APIView):
    """`POST /stripe/webhook`: store the event, answer, act on it in a task.

    A redelivery enqueues again: the first message may be lost, and a task that finds
    its event processed does nothing.
    """

    permission_classes = [AllowAny]  # the signature is the credential
    content_negotiation_class = AlwaysJson

    def post(self, request: Request) -> Response:
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.MAX_BODY:
            raise BodyTooLarge("An event is at most 1 MiB.")
        event_id = record_event(
            body=request.body, signature=request.headers.get("Stripe-Signature", "")
        )
        process_stripe_event.delay_on_commit(event_id)
        return success({"id": event_id})


class PaymentPageView(View):
    """`/pay/<token>`: what is billed, and how to pay it. Whoever has the link may."""

    http_method_names = ["get", "head", "post"]

    def dispatch(self, request: HttpRequest, token: str) -> HttpResponseBase:
        """Turn away whose link is no good, and keep the page to who has it."""
        answer: HttpResponseBase
        try:
            answer = super().dispatch(request, invoice_id=read_token(token))
        except CaravelError as exc:
            answer = _page(request, {"error": exc.message}, status=exc.status)
        for name, value in _PRIVATE.items():
            answer[name] = value
        return answer

    def get(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        return _page(request, {"invoice": invoice_page(invoice_id)})

    def post(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        """Offer a bolt11, which the page then shows, and shows again."""
        try:
            offer_bolt11(invoice_id=invoice_id)
        except CaravelError as exc:
            content = {"invoice": invoice_page(invoice_id), "error": _sentence(exc)}
            return _page(request, content, status=exc.status)
        return HttpResponseRedirect(request.path)


#: The address is the key: it is to be left nowhere. `same-origin`, since a form that is
#: sent without a referrer has the origin «null», which no check against forgery takes.
_PRIVATE = {
    "Cache-Control": "no-store, private",
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
}


def _page(
    request: HttpRequest, content: dict[str, object], status: int = 200
) -> HttpResponse:
    return render(request, "billing/pay.html", content, status=status)


def _sentence(error: CaravelError) -> str:
    """Return what a person can do something with; the rest is ours to read."""
    until = getattr(error, "until", None)
    is_ahead = isinstance(until, datetime) and until > timezone.now()
    if isinstance(error, PaymentInProgress) and is_ahead:
        return f"{error.message} Please come back after {until:%H:%M} UTC."
    if isinstance(error, PaymentInProgress | AlreadySettled | InvoiceNotOpen):
        return error.message
    logger.warning("bolt11_not_offered", code=error.code, error=error.message)
    return "We cannot take Lightning just now. Please try again in a few minutes."
