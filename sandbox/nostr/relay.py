"""The sandbox relay: `with running_relay() as relay: …`."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from sandbox.common.nostr import Event
from sandbox.nostr.faults import Place, RelayFault, When
from sandbox.nostr.listener import Listener
from sandbox.nostr.relay_core import RelayCore
from sandbox.nostr.settings import RelaySettings

T = TypeVar("T")
# Seconds to wait for the relay's thread.
THREAD_TIMEOUT = 10.0


class SandboxRelay:
    """A Nostr relay in its own thread; all methods are thread-safe.

    When a method returns, its effect is complete: a new fault applies at once. A
    stopped relay can be started again; it keeps its events and its port.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: RelaySettings | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._core = RelayCore(settings or RelaySettings())
        self._listener = Listener(self._core)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    @property
    def url(self) -> str:
        """The address for clients; known after the first start."""
        return f"ws://{self.host}:{self.port}"

    def start(self) -> None:
        """Start, if it is not running. Raises OSError if the port is taken."""
        if self._thread is not None:
            return
        started: Future[None] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._main(started)),
            name="sandbox-relay",
            daemon=True,
        )
        thread.start()
        started.result(THREAD_TIMEOUT)
        self._thread = thread

    def stop(self) -> None:
        """Close all sockets and end the thread; delayed messages are lost."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join(THREAD_TIMEOUT)
            if thread.is_alive():
                raise RuntimeError("the relay's thread did not end")

    def go_offline(self) -> None:
        """Break all connections and refuse new ones."""
        self._wait(self._listener.close)

    def go_online(self) -> None:
        """Listen again on the same port. Raises OSError if it is taken."""
        self._wait(self._listen)

    @property
    def online(self) -> bool:
        """True while clients can connect."""
        return self._thread is not None and self._call(lambda: self._listener.is_open)

    def drop_connections(self) -> None:
        """Break all connections; clients may reconnect."""
        self._call(self._listener.drop)

    def end_subscriptions(self) -> None:
        """Close all subscriptions and send CLOSED to their clients."""
        self._call(self._core.end_subscriptions)

    @property
    def connections(self) -> int:
        """The number of connected clients."""
        return self._call(lambda: len(self._core.peers))

    @property
    def accepted(self) -> int:
        """The number of connections since the relay was created."""
        return self._call(lambda: self._core.accepted)

    @property
    def subscriptions(self) -> int:
        """The number of open subscriptions on all connections."""
        return self._call(lambda: len(self._core.subscriptions))

    @property
    def requests(self) -> int:
        """The number of REQ messages received."""
        return self._call(lambda: self._core.requests)

    @property
    def authenticated(self) -> set[str]:
        """The public keys, in hex, that connected clients have proven (NIP-42)."""
        return self._call(
            lambda: {key for peer in self._core.peers for key in peer.pubkeys}
        )

    def events(self, kind: int | None = None, author: str | None = None) -> list[Event]:
        """Return the valid events that clients have sent, in order of arrival.

        Duplicates, refused events and events lost by a fault are included.
        """
        received = self._call(lambda: list(self._core.received))
        return _select(received, kind, author)

    def stored(self, kind: int | None = None, author: str | None = None) -> list[Event]:
        """Return the stored events, including expired ones, newest first."""
        records = self._call(lambda: self._core.store.records())
        return _select([record.event for record in records], kind, author)

    def forget(self, kind: int, author: str) -> None:
        """Delete stored events of a kind and an author, as relays do with old ones."""
        self._call(lambda: self._core.store.delete(kind, author))

    def count(self, kind: int | None = None) -> int:
        """Return the number of events of a kind that clients have sent."""
        counts = self._call(lambda: dict(self._core.counts))
        return sum(counts.values()) if kind is None else counts.get(kind, 0)

    def fault(
        self,
        kind: str,
        *,
        on: Place = "event",
        when: When = "before",
        kinds: Collection[int] | None = None,
        author: str | None = None,
        times: int | None = None,
        chance: float = 1.0,
        seconds: float = 0.0,
        reason: str = RelayFault.reason,
    ) -> str:
        """Add a fault for matching messages, see `RelayFault`; return its id.

        `kinds` and `author` match an event, or the filters of a request. Raises
        BadField.
        """
        fault = RelayFault(
            kind,
            on=on,
            when=when,
            kinds=None if kinds is None else sorted(kinds),
            author=author,
            times=times,
            chance=chance,
            seconds=seconds,
            reason=reason,
        )
        return self.add_fault(fault).id

    def add_fault(self, fault: RelayFault) -> RelayFault:
        """Add a fault; it has an `id` then. Raises BadField."""
        return self._call(lambda: self._core.faults.add(fault))

    def faults(self) -> list[RelayFault]:
        """Return the active faults in the order in which they were added."""
        return self._call(self._core.faults.active)

    def hits(self, fault_id: str) -> int:
        """Return how often a fault was used. Raises KeyError once it is cleared."""
        return self._call(lambda: self._core.faults.hits(fault_id))

    def clear_faults(self) -> None:
        """Remove all faults; what they delay or hold is processed at once."""
        self._call(self._core.clear_faults)

    @property
    def held(self) -> int:
        """The number of held messages."""
        return self._call(lambda: len(self._core.delayed.held))

    def release(self) -> int:
        """Process the held messages in order; return how many there were."""
        return self._call(self._core.delayed.release)

    @property
    def settings(self) -> RelaySettings:
        """The current settings."""
        return self._core.settings

    def change_settings(self, **changes: Any) -> None:
        """Change some settings.

        `max_message_bytes` applies from the next time the relay goes online,
        `max_received` and `seed` from the next reset. The challenge is sent when a
        client connects: after requiring authentication, drop the connections.
        """
        self._core.settings = replace(self._core.settings, **changes)

    def reset(self) -> None:
        """Delete events, faults, counters and held messages; connections stay."""
        self._call(self._core.reset)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        # Without a thread no event loop uses the core: the call is safe in any thread.
        return function() if self._thread is None else self._wait(call)

    def _wait(self, function: Callable[[], Any]) -> Any:
        """Run a coroutine on the relay's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(
            THREAD_TIMEOUT
        )

    async def _main(self, started: "Future[None]") -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._listen()
        except Exception as exc:  # re-raised by start()
            started.set_exception(exc)
            return
        started.set_result(None)
        await self._stopping.wait()
        await self._listener.close()
        self._core.delayed.discard()

    async def _listen(self) -> None:
        self.port = await self._listener.open(self.host, self.port)


def _select(events: list[Event], kind: int | None, author: str | None) -> list[Event]:
    return [
        event
        for event in events
        if kind in (None, event.kind) and author in (None, event.pubkey)
    ]


@contextmanager
def running_relay(
    *, host: str = "127.0.0.1", port: int = 0, settings: RelaySettings | None = None
) -> Iterator[SandboxRelay]:
    """Run a relay for the length of the block."""
    relay = SandboxRelay(host=host, port=port, settings=settings)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()
