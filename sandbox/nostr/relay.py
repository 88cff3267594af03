"""The sandbox relay: `with running_relay() as relay: …`."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from caravel.nostr.events import Event
from sandbox.nostr.exchange import RelayCore
from sandbox.nostr.faults import Fault, Kind, Place, When
from sandbox.nostr.listener import Listener
from sandbox.nostr.settings import RelaySettings

T = TypeVar("T")
# Seconds after which the relay's thread is taken for dead.
THREAD_TIMEOUT = 10.0


class SandboxRelay:
    """A Nostr relay in a thread of its own; every method is for any thread.

    A method returns once what it asks for is done, and a fault is in force from then
    on. A relay can be started again after a stop; it keeps its events and its port.
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
        """The address for clients; known once the relay has been started."""
        return f"ws://{self.host}:{self.port}"

    def start(self) -> None:
        """Listen, unless it does. Raises OSError when the port is taken."""
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
        """Close every socket and end the thread; what faults hold back is lost."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join(THREAD_TIMEOUT)
            if thread.is_alive():
                raise RuntimeError("the relay's thread does not end")

    def go_offline(self) -> None:
        """Break every connection and refuse new ones."""
        self._wait(self._listener.close)

    def go_online(self) -> None:
        """Listen again, on the same port. Raises OSError when it is taken."""
        self._wait(self._listen)

    @property
    def online(self) -> bool:
        """Whether clients can connect."""
        return self._thread is not None and self._call(lambda: self._listener.is_open)

    def drop_connections(self) -> None:
        """Break every connection; clients may connect again."""
        self._call(self._listener.drop)

    def end_subscriptions(self) -> None:
        """Close every subscription, and tell its client CLOSED."""
        self._call(self._end_subscriptions)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._call(lambda: len(self._core.peers))

    @property
    def accepted(self) -> int:
        """How many clients have connected since the relay was made."""
        return self._call(lambda: self._core.accepted)

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open, on all connections."""
        return self._call(lambda: len(self._core.subscriptions))

    @property
    def requests(self) -> int:
        """How many REQ have come."""
        return self._call(lambda: self._core.requests)

    @property
    def authenticated(self) -> set[str]:
        """The keys that clients now connected have proven (NIP-42), in hex."""
        return self._call(
            lambda: {key for peer in self._core.peers for key in peer.pubkeys}
        )

    def events(self, kind: int | None = None, author: str | None = None) -> list[Event]:
        """Return the valid events that clients have sent, in the order they came.

        Each is listed as often as it came, whatever became of it: duplicates, refused
        ones and those lost by a fault are among them.
        """
        received = self._call(lambda: list(self._core.received))
        return _select(received, kind, author)

    def stored(self, kind: int | None = None, author: str | None = None) -> list[Event]:
        """Return the events that are stored, the newest first, expired ones too."""
        records = self._call(lambda: self._core.store.records())
        return _select([record.event for record in records], kind, author)

    def count(self, kind: int | None = None) -> int:
        """Return how many events of a kind clients have sent, as `events` lists."""
        counts = self._call(lambda: dict(self._core.counts))
        return sum(counts.values()) if kind is None else counts.get(kind, 0)

    def fault(
        self,
        kind: Kind,
        *,
        on: Place = "event",
        when: When = "before",
        kinds: Collection[int] | None = None,
        author: str | None = None,
        times: int | None = None,
        seconds: float = 0.0,
        chance: float = 1.0,
    ) -> str:
        """Let matching messages go wrong, see `Fault`; return the fault's id.

        `kinds` and `author` are an event's, or such as a request names. Raises
        BadFault.
        """
        fault = Fault(
            kind=kind,
            on=on,
            when=when,
            kinds=None if kinds is None else frozenset(kinds),
            author=author,
            times=times,
            seconds=seconds,
            chance=chance,
        )
        return self._call(lambda: self._core.faults.add(fault)).id

    def faults(self) -> list[Fault]:
        """Return the faults in force, in the order they were asked for."""
        return self._call(self._core.faults.active)

    def hits(self, fault_id: str) -> int:
        """Return how often a fault has struck. Raises KeyError once it is cleared."""
        return self._call(lambda: self._core.faults.hits(fault_id))

    def clear_faults(self) -> None:
        """Remove every fault; what they hold back goes on at once."""
        self._call(self._clear_faults)

    @property
    def held(self) -> int:
        """How much `hold` holds back now."""
        return self._call(lambda: self._core.delayed.held)

    def release(self) -> int:
        """Let what is held go on, in the order it came; return how much it was."""
        return self._call(self._core.delayed.release)

    @property
    def settings(self) -> RelaySettings:
        """What the relay is set to."""
        return self._core.settings

    def change_settings(self, **changes: Any) -> None:
        """Change some settings.

        `max_message_bytes` is heeded from the next time it goes online, `max_received`
        and `seed` from the next reset. A connection is challenged as it is made: who
        sets `requires_auth` later drops the connections.
        """
        self._call(lambda: self._change_settings(changes))

    def reset(self) -> None:
        """Forget events, faults, counts and what is held; connections stay."""
        self._call(self._core.reset)

    def _end_subscriptions(self) -> None:
        for peer in list(self._core.peers):
            peer.end_subscriptions()

    def _clear_faults(self) -> None:
        self._core.faults.clear()
        self._core.delayed.finish()

    def _change_settings(self, changes: dict[str, Any]) -> None:
        self._core.settings = replace(self._core.settings, **changes)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return function() if self._thread is None else self._wait(call)

    def _wait(self, function: Callable[[], Any]) -> Any:
        """Run a coroutine on the relay's loop; return what it returns."""
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(
            THREAD_TIMEOUT
        )

    async def _main(self, started: "Future[None]") -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._listen()
        except Exception as exc:  # whatever it is, start() raises it
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
def running_relay(**options: Any) -> Iterator[SandboxRelay]:
    """Run a relay for the length of the block; the options are SandboxRelay's."""
    relay = SandboxRelay(**options)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()
