"""Tenants with subscriptions at the sandbox Stripe, and the events about them."""

import json
from collections.abc import Iterator
from itertools import count, cycle, islice

from django.conf import settings

from benchmarks.support.wire import Wire
from billing.clients.stripe.client import Stripe
from billing.services.customers.catalog import ensure_prices
from billing.services.events.process import HANDLERS
from billing.services.subscriptions.sync import sync_tenant
from relays.tests.factories import RelayFactory

TENANTS = 10
_PLACEHOLDER = "evt_placeholder"
_numbers = count(1)


def templates() -> list[str]:
    """Create tenants; return the events about them, as Stripe sends them."""
    ensure_prices(Stripe())
    for _ in range(TENANTS):
        sync_tenant(tenant_id=RelayFactory().tenant_id)
    return [_template(event) for event in _events() if event["type"] in HANDLERS]


def unhandled(template: str) -> str:
    """Return the event with a type that has no handler."""
    return json.dumps({**json.loads(template), "type": "benchmark"}, indent=2)


def bodies(from_templates: list[str], number: int) -> Iterator[str]:
    """Yield events with new ids."""
    for template in islice(cycle(from_templates), number):
        yield template.replace(_PLACEHOLDER, f"evt_{next(_numbers)}")


def _events() -> list[dict[str, object]]:
    wire = Wire(settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY)
    try:
        listed = json.loads(wire.get("/v1/events?limit=100"))
    finally:
        wire.close()
    events: list[dict[str, object]] = listed["data"]
    return events


def _template(event: dict[str, object]) -> str:
    return json.dumps({**event, "id": _PLACEHOLDER}, indent=2)
