"""A request and its reply, over several relays at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from caravel.core.exceptions import CaravelError
from caravel.nostr.events import Event
from caravel.nostr.relays.background import ConnectionLost, cancel
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pending import Request
from caravel.nostr.relays.shared_connections import SharedConnections

#: Seconds to wait for a reply after all relays have refused the event.
_REFUSED_GRACE = 2.0


class NoReply(CaravelError):
    """The event was or may have been sent, and no reply arrived in time."""

    code = "nostr-no-reply"
    status = 504


class EventRefused(NoReply):
    """The relays refused the event. One of them may have forwarded it all the same."""

    code = "nostr-event-refused"
    status = 502


@dataclass(frozen=True)
class Sending:
    """Event for some relays, and the kind and author of the reply to it."""

    endpoints: Sequence[Endpoint]
    event: Event
    author: str
    kind: int
    secret_key: str = field(default="", repr=False)

    def request(self) -> Request:
        """Return the request that waits in the running event loop for the reply."""
        reply = asyncio.get_running_loop().create_future()
        return Request(self.event, self.author, self.kind, reply, self.secret_key)


async def exchange(
    connections: SharedConnections, sending: Sending, timeout: float
) -> Event:
    """Send an event to all its relays and return the first reply.

    Raises RelayUnreachable if nothing was sent, else NoReply.
    """
    request = sending.request()
    tasks = [
        asyncio.create_task(_send(connections, endpoint, request))
        for endpoint in sending.endpoints
    ]
    try:
        async with asyncio.timeout(timeout):
            return await _first_reply(request, tasks)
    except TimeoutError:
        if request.sent:
            raise NoReply(f"No reply within {timeout:g} seconds.") from None
        raise RelayUnreachable("No relay could be reached in time.") from None
    finally:
        await cancel(tasks)
        for endpoint in sending.endpoints:
            connections.stop_waiting(endpoint, request)


async def _send(
    connections: SharedConnections, endpoint: Endpoint, request: Request
) -> None:
    """Subscribe to the reply at one relay, then send the event once."""
    await connections.pending_replies(endpoint, request.kind).add(request)
    try:
        accepted, reason = await connections.get(endpoint).publish(
            request.event,
            secret_key=request.secret_key,
            ready_check=request.mark_sent,
        )
    except ConnectionLost:
        return
    if not accepted:
        raise EventRefused(f"The relay {endpoint.host} refuses the event: {reason}")


async def _first_reply(request: Request, tasks: list[asyncio.Task[None]]) -> Event:
    all_sent = asyncio.gather(*tasks, return_exceptions=True)
    either: list[asyncio.Future[Any]] = [request.reply, all_sent]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not request.reply.done():
        await _check_sent(request, all_sent.result())
    return await request.reply


async def _check_sent(
    request: Request, results: Sequence[BaseException | None]
) -> None:
    """Raise an error if no relay has the event."""
    errors = [error for error in results if error]
    if not request.sent:
        raise next(iter(errors), RelayUnreachable("No relay is given."))
    refusals = [error for error in errors if isinstance(error, EventRefused)]
    if refusals and len(errors) == len(results):
        await asyncio.wait([request.reply], timeout=_REFUSED_GRACE)
        if not request.reply.done():
            raise refusals[0]
