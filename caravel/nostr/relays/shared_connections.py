"""Connections of one pool, by endpoint, and the requests that wait on them."""

import asyncio
from collections.abc import Callable, Iterable

from caravel.nostr.relays.background import in_background
from caravel.nostr.relays.connection import Connection
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.limits import Limits
from caravel.nostr.relays.pending import PendingReplies, Request
from caravel.nostr.relays.time_share import TimeShare


class TooManyConnections(RelayUnreachable):
    """The maximum number of relays is in use. Nothing was sent."""

    code = "relay-connections-exhausted"


class SharedConnections:
    """One connection per endpoint. All methods run in the pool's event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._share = TimeShare(limits.time_share)
        self.by_endpoint: dict[Endpoint, Connection] = {}
        self.pending: dict[tuple[Endpoint, int], PendingReplies] = {}

    def get(self, endpoint: Endpoint) -> Connection:
        """Return the connection; it opens when it is used.

        Raises TooManyConnections.
        """
        if endpoint not in self.by_endpoint:
            self._make_room(endpoint)
            connection = Connection(endpoint, self._limits, self._share)
            self.by_endpoint[endpoint] = connection
        return self.by_endpoint[endpoint]

    def pending_replies(self, endpoint: Endpoint, kind: int) -> PendingReplies:
        """Return the requests that wait for replies of this kind.

        Raises TooManyConnections.
        """
        new = PendingReplies(self.get(endpoint), kind)
        return self.pending.setdefault((endpoint, kind), new)

    def stop_waiting(self, endpoint: Endpoint, request: Request) -> None:
        """Remove a request from those that wait, if it is one of them."""
        if pending := self.pending.get((endpoint, request.kind)):
            pending.remove(request)

    async def close(self) -> None:
        """Close all connections."""
        closing = [connection.close() for connection in self.by_endpoint.values()]
        await asyncio.gather(*closing, return_exceptions=True)

    def _make_room(self, endpoint: Endpoint) -> None:
        """Close unused connections, since tenants can name any number of relays."""
        limits = self._limits
        self._reduce(lambda: [*self.by_endpoint], limits.max_connections)
        self._reduce(
            lambda: [e for e in self.by_endpoint if e.hostname == endpoint.hostname],
            limits.max_connections_per_host,
        )

    def _reduce(self, endpoints: Callable[[], list[Endpoint]], maximum: int) -> None:
        if len(endpoints()) >= maximum:
            self._drop_unused(endpoints())
        if len(endpoints()) >= maximum:
            raise TooManyConnections("Too many relays are in use at the moment.")

    def _drop_unused(self, endpoints: Iterable[Endpoint]) -> None:
        awaited = {
            e for (e, _), pending in self.pending.items() if not pending.is_empty
        }
        for endpoint in endpoints:
            if endpoint not in awaited and not self.by_endpoint[endpoint].is_used:
                in_background(self.by_endpoint.pop(endpoint).close())
        self.pending = {
            key: pending
            for key, pending in self.pending.items()
            if key[0] in self.by_endpoint
        }
