"""Stored events of relays, and publishing to relays, several at once."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from caravel.nostr.events import Event, InvalidEvent, parse_event
from caravel.nostr.relays.background import ConnectionLost, cancel
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.shared_connections import SharedConnections
from caravel.nostr.relays.subscriptions import Filter

logger = structlog.get_logger(__name__)

#: Maximum number of events that a fetch accepts from one relay.
_MAX_FETCHED = 100


@dataclass(frozen=True)
class FetchResult:
    """Stored events of relays.

    `complete` if each relay sent EOSE, `answered` if at least one did.
    """

    events: tuple[Event, ...]
    complete: bool
    answered: bool


async def fetch(
    connections: SharedConnections,
    endpoints: Sequence[Endpoint],
    filters: list[Filter],
    *,
    timeout: float,
    secret_keys: Sequence[str],
) -> FetchResult:
    """Return the stored events. Raises RelayUnreachable if all relays fail."""
    events: dict[str, Event] = {}
    tasks = await _run(
        [
            _fetch_from(connections, endpoint, filters, events, secret_keys)
            for endpoint in endpoints
        ],
        timeout,
    )
    errors = [task.exception() for task in tasks if task.exception()]
    if len(errors) == len(endpoints) and not events:
        raise next(iter(errors), None) or RelayUnreachable("No relay is given.")
    answered = len(tasks) - len(errors)
    return FetchResult(
        tuple(events.values()),
        complete=answered == len(endpoints),
        answered=answered > 0,
    )


async def publish(
    connections: SharedConnections,
    endpoints: Sequence[Endpoint],
    event: Event,
    *,
    timeout: float,
    secret_key: str,
) -> list[str]:
    """Send an event to all relays; return the hosts of those that accepted it."""
    tasks = await _run(
        [
            _publish_to(connections, endpoint, event, secret_key)
            for endpoint in endpoints
        ],
        timeout,
    )
    return [task.result() for task in tasks if task.result()]


async def _fetch_from(
    connections: SharedConnections,
    endpoint: Endpoint,
    filters: list[Filter],
    events: dict[str, Event],
    secret_keys: Sequence[str],
) -> None:
    """Add one relay's stored events. Raises RelayUnreachable without EOSE."""
    remaining = iter(range(_MAX_FETCHED))

    def on_event(data: object) -> None:
        if next(remaining, None) is None:
            return
        with suppress(InvalidEvent):
            event = parse_event(data)
            events[event.id] = event

    connection = connections.get(endpoint)
    subscription = await connection.subscribe(
        filters, on_event, secret_keys=secret_keys
    )
    try:
        await subscription.stored
    finally:
        connection.unsubscribe(subscription)


async def _publish_to(
    connections: SharedConnections, endpoint: Endpoint, event: Event, secret_key: str
) -> str:
    """Return the relay's host if it accepts the event, otherwise ""."""
    with suppress(RelayUnreachable, ConnectionLost):
        accepted, reason = await connections.get(endpoint).publish(
            event, secret_key=secret_key
        )
        if accepted:
            return endpoint.host
        logger.info("event_refused", relay=endpoint.host, reason=reason)
    return ""


async def _run(
    coroutines: list[Coroutine[Any, Any, Any]], timeout: float
) -> list[asyncio.Task[Any]]:
    """Run coroutines at once; return the tasks that end within `timeout` seconds."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    if not tasks:
        return []
    done, late = await asyncio.wait(tasks, timeout=timeout)
    await cancel(list(late))
    return list(done)
