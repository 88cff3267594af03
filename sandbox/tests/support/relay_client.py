"""A Nostr client of the tests' own, as plain as one can be."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from caravel.nostr import generate_secret_key
from caravel.nostr.events import Event, parse_event, sign_event

PATIENCE = 10.0
ANN, BOB = generate_secret_key(), generate_secret_key()


class Client:
    """Speaks the messages of NIP-01 over one connection."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire

    def send(self, *message: Any) -> None:
        self.wire.send(json.dumps(message))

    def take(self) -> list[Any]:
        """Return the next message."""
        message = json.loads(self.wire.recv(PATIENCE))
        assert isinstance(message, list)
        return message

    def publish(self, event: Event) -> tuple[bool, str]:
        """Send an event; return what OK says of it."""
        self.send("EVENT", event.to_dict())
        verb, event_id, accepted, text = self.take()
        assert (verb, event_id) == ("OK", event.id)
        return accepted, text

    def ask(self, *filters: dict[str, Any], name: str = "sub") -> list[Event]:
        """Open a subscription; return the stored events, verified."""
        self.send("REQ", name, *filters)
        found = []
        while (message := self.take())[0] == "EVENT":
            found.append(arrived(message, name))
        assert message == ["EOSE", name]
        return found

    def find(self, *filters: dict[str, Any]) -> list[Event]:
        """Return the stored events, verified; the subscription is closed again."""
        found = self.ask(*filters, name="find")
        self.send("CLOSE", "find")
        return found

    def next_event(self, name: str = "sub") -> Event:
        """Return the next event of a subscription."""
        return arrived(self.take(), name)

    def rest(self) -> list[list[Any]]:
        """Return every message that the relay has sent until now.

        A malformed message is answered after all that came before it.
        """
        self.send("are you there?")
        found = []
        while (message := self.take())[0] != "NOTICE":
            found.append(message)
        return found


def arrived(message: list[Any], name: str = "sub") -> Event:
    """Return the event, verified, that a message brings to a subscription."""
    verb, subscription, event = message
    assert (verb, subscription) == ("EVENT", name)
    return parse_event(event)


@contextmanager
def connected(url: str, *, max_queue: int | None = None) -> Iterator[Client]:
    """Connect to a relay for the length of the block.

    With a `max_queue` the client stops reading after so many frames.
    """
    with connect(url, compression=None, max_queue=max_queue) as wire:
        yield Client(wire)


def note(
    content: str = "",
    *,
    key: str = ANN,
    kind: int = 1,
    tags: Any = (),
    created_at: int | None = None,
) -> Event:
    """Return a signed event."""
    return sign_event(key, kind=kind, content=content, tags=tags, created_at=created_at)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
