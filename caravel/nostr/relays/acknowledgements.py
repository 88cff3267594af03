"""Answers of a relay to events: OK, with a flag and a reason (NIP-01)."""

import asyncio
from collections.abc import Awaitable, Callable

from caravel.nostr.events import Event


class Acknowledgements:
    """Events sent over one connection that wait for their OK."""

    def __init__(
        self, send: Callable[[list[object], Callable[[], None]], Awaitable[None]]
    ) -> None:
        self._send = send
        self._waiting: dict[str, asyncio.Future[tuple[bool, str]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def send(
        self, verb: str, event: Event, ready_check: Callable[[], None] = lambda: None
    ) -> tuple[bool, str]:
        """Send an event; return the flag and the reason of its OK."""
        new = asyncio.get_running_loop().create_future()
        ok = self._waiting.setdefault(event.id, new)
        try:
            await self._send([verb, event.to_dict()], ready_check)
            return await asyncio.shield(ok)
        finally:
            self._waiting.pop(event.id, None)

    def on_ok(self, id: str, accepted: bool, reason: str) -> None:
        """Pass an OK on."""
        ok = self._waiting.get(id)
        if ok is not None and not ok.done():
            ok.set_result((accepted, reason))

    def fail(self, error: Exception) -> None:
        """End all waits with an error."""
        for ok in self._waiting.values():
            if not ok.done():
                ok.set_exception(error)
        self._waiting.clear()
