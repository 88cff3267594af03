"""The seed's way: each tenant by itself, one GET and two queries. Needs django.setup().

The Rust module `billing.rs` reconciles so at its start: `sync_tenant` reads the tenant
and its relays, and gets the subscription. Stripe's client is left out here: a raw
connection that is kept costs less than that of any language.
"""

import json
import time
from collections.abc import Sequence

from django.db import connection

from benchmarks.support.reconciliation.names import Template
from benchmarks.support.wire import Wire

_TENANT = "SELECT stripe_subscription_id FROM tenants_tenant WHERE pubkey = %s"
_RELAYS = "SELECT plan_id, status FROM relays_relay WHERE tenant_id = %s"


def seconds_per_tenant(url: str, template: Template, numbers: Sequence[int]) -> float:
    """Return the time for a tenant in sync, over some."""
    wire = Wire(url)
    started = time.perf_counter()
    for number in numbers:
        _compare(wire, template.names(number)[template.pubkey])
    seconds = time.perf_counter() - started
    wire.close()
    return seconds / len(numbers)


def set_quantity(
    url: str, template: Template, numbers: Sequence[int], quantity: int
) -> float:
    """Set the quantity of some subscriptions; return the seconds of each request."""
    wire, seconds = Wire(url), 0.0
    for number in numbers:
        subscription = template.names(number)[template.subscription]
        (item,) = _items(wire, subscription)
        form = {"items[0][id]": item["id"], "items[0][quantity]": quantity}
        started = time.perf_counter()
        wire.post(f"/v1/subscriptions/{subscription}", form)
        seconds += time.perf_counter() - started
    wire.close()
    return seconds / len(numbers)


def _compare(wire: Wire, pubkey: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_TENANT, [pubkey])
        (subscription,) = cursor.fetchone()
        cursor.execute(_RELAYS, [pubkey])
        relays = cursor.fetchall()
    (item,) = _items(wire, subscription)
    if item["quantity"] != len(relays):
        raise RuntimeError(f"{subscription} differs from the relays")


def _items(wire: Wire, subscription: str) -> list[dict[str, object]]:
    answer = json.loads(wire.get(f"/v1/subscriptions/{subscription}"))
    items: list[dict[str, object]] = answer["items"]["data"]
    return items
