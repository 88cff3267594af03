"""The webhook endpoint at Stripe, which must send every type that has a handler."""

import structlog
from django.conf import settings
from django.urls import reverse

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.errors import StripeError
from billing.services.events.process import EVENT_TYPES

logger = structlog.get_logger(__name__)


def own_url() -> str:
    """Return the URL to which Stripe sends this installation's events."""
    return f"{settings.APP_URL}{reverse('stripe-webhook')}"


def complete_events(stripe: Stripe, url: str) -> str | None:
    """Add the event types that an endpoint lacks; return its id, None without one."""
    found = stripe.webhook_endpoints.find(url)
    if found is None:
        return None
    endpoint, events = found
    missing = EVENT_TYPES - {*events}
    if missing and "*" not in events:
        logger.warning("webhook_endpoint_corrected", missing=sorted(missing))
        stripe.webhook_endpoints.set_events(endpoint, sorted({*events, *missing}))
    return endpoint


def complete_own_events() -> None:
    """Add the event types that our endpoint lacks since an update of Caravel.

    A failure is logged: the next reconciliation tries again.
    """
    try:
        complete_events(Stripe(), own_url())
    except StripeError as exc:
        # A restricted key may not see endpoints: `stripe_setup` needs more than we do.
        logger.warning("webhook_endpoint_unknown", error=exc.message)
