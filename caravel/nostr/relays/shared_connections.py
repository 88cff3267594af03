"""Connections of one pool, by endpoint, and the requests that wait on them."""

import asyncio

from caravel.nostr.relays.connection import Connection
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pending import PendingReplies

#: Number of connections after which unused ones are dropped.
_MAX_CONNECTIONS = 100


class SharedConnections:
    """One connection per endpoint. All methods run in the pool's event loop."""

    def __init__(self) -> None:
        self.by_endpoint: dict[Endpoint, Connection] = {}
        self.pending: dict[tuple[Endpoint, int], PendingReplies] = {}

    def get(self, endpoint: Endpoint) -> Connection:
        """Return the connection; it opens when it is used."""
        if endpoint not in self.by_endpoint:
            if len(self.by_endpoint) >= _MAX_CONNECTIONS:
                self._drop_unused()
            self.by_endpoint[endpoint] = Connection(endpoint)
        return self.by_endpoint[endpoint]

    def pending_replies(self, endpoint: Endpoint, kind: int) -> PendingReplies:
        """Return the requests that wait for replies of this kind."""
        new = PendingReplies(self.get(endpoint), kind)
        return self.pending.setdefault((endpoint, kind), new)

    async def close(self) -> None:
        """Close all connections."""
        closing = [connection.close() for connection in self.by_endpoint.values()]
        await asyncio.gather(*closing, return_exceptions=True)

    def _drop_unused(self) -> None:
        """Drop unused connections, since tenants can name any number of relays."""
        awaited = {
            e for (e, _), pending in self.pending.items() if not pending.is_empty
        }
        for endpoint, connection in list(self.by_endpoint.items()):
            if endpoint not in awaited and not connection.is_used:
                del self.by_endpoint[endpoint]
        self.pending = {
            key: pending
            for key, pending in self.pending.items()
            if key[0] in self.by_endpoint
        }
