"""`POST /stripe/webhook`: receives Stripe's events."""

from collections.abc import Callable

import structlog
from django.db import InterfaceError, OperationalError, transaction
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from billing.services.events.drain import wake_up
from billing.services.events.inbox import record_event
from caravel.core.exceptions import CaravelError
from caravel.core.web.failures import database_unavailable, plain_failure
from caravel.core.web.throttling import client_ip

logger = structlog.get_logger(__name__)

PATH = "stripe/webhook"


class StripeWebhookMiddleware:
    """Middleware that answers Stripe before the middleware of pages and of the API.

    The signature is the credential: host, cookies and origin mean nothing here.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._path = f"/{PATH}"

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info != self._path:
            return self._get_response(request)
        response = stripe_webhook(request)
        # Without a length, the server closes the connection.
        response["Content-Length"] = str(len(response.content))
        return response


@csrf_exempt
def stripe_webhook(request: HttpRequest) -> JsonResponse:
    """Store the event and respond; a task processes it."""
    if request.method != "POST":
        error = {"error": "Only POST is allowed.", "code": "method-not-allowed"}
        return JsonResponse(error, status=405, headers={"Allow": "POST"})
    try:
        event_id = _receive(request)
    except CaravelError as exc:
        logger.warning("webhook_refused", code=exc.code, ip=client_ip(request))
        return plain_failure(exc)
    except (OperationalError, InterfaceError) as exc:
        return plain_failure(database_unavailable(exc))
    return JsonResponse({"data": {"id": event_id}, "code": "ok"})


def _receive(request: HttpRequest) -> str:
    # Not `request.headers`, which would copy them all.
    signature = request.META.get("HTTP_STRIPE_SIGNATURE", "")
    event_id = record_event(body=request.body, signature=signature)
    # Also on a redelivery: the message of the first delivery may have been lost.
    transaction.on_commit(wake_up.request, robust=True)
    return event_id
