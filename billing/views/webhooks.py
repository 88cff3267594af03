"""`POST /stripe/webhook`: receives Stripe's events."""

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.services.events.inbox import record_event
from billing.tasks import process_stripe_event
from caravel.core.web.envelope import AlwaysJson, success


class StripeWebhookView(APIView):
    """Store the event, respond, and process it in a task."""

    permission_classes = [AllowAny]  # the signature is the credential
    content_negotiation_class = AlwaysJson

    def post(self, request: Request) -> Response:
        event_id = record_event(
            body=request.body, signature=request.headers.get("Stripe-Signature", "")
        )
        # Also on a redelivery: the first message may have been lost, and the task does
        # nothing for an event that has been processed.
        process_stripe_event.delay_on_commit(event_id)
        return success({"id": event_id})
