"""A minimal Nostr client for tests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from caravel.tests.support.waiting import LIMIT
from sandbox.common.nostr import Event, generate_secret_key, parse_event, sign_event

ANN, BOB = generate_secret_key(), generate_secret_key()


class Client:
    """Sends and receives NIP-01 messages over one connection."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire

    def send(self, *message: Any) -> None:
        self.wire.send(json.dumps(message))

    def receive(self) -> list[Any]:
        """Return the next message."""
        message = json.loads(self.wire.recv(LIMIT))
        assert isinstance(message, list)
        return message

    def publish(self, event: Event) -> tuple[bool, str]:
        """Send an event; return `accepted` and the text of its OK."""
        self.send("EVENT", event.to_dict())
        verb, event_id, accepted, text = self.receive()
        assert (verb, event_id) == ("OK", event.id)
        return accepted, text

    def subscribe(self, *filters: dict[str, Any], name: str = "sub") -> list[Event]:
        """Open a subscription; return the stored events, verified."""
        self.send("REQ", name, *filters)
        events = []
        while (message := self.receive())[0] == "EVENT":
            events.append(event_of(message, name))
        assert message == ["EOSE", name]
        return events

    def find(self, *filters: dict[str, Any]) -> list[Event]:
        """Return the stored events, verified, and close the subscription."""
        events = self.subscribe(*filters, name="find")
        self.send("CLOSE", "find")
        return events

    def next_event(self, name: str = "sub") -> Event:
        """Return the next event of a subscription."""
        return event_of(self.receive(), name)

    def receive_all(self) -> list[list[Any]]:
        """Return all messages that the relay has sent until now.

        The answer to a malformed message comes after all earlier messages.
        """
        self.send("are you there?")
        messages = []
        while (message := self.receive())[0] != "NOTICE":
            messages.append(message)
        return messages


def event_of(message: list[Any], name: str = "sub") -> Event:
    """Return the verified event in a message to a subscription."""
    verb, subscription, event = message
    assert (verb, subscription) == ("EVENT", name)
    return parse_event(event)


@contextmanager
def connected(url: str, *, max_queue: int | None = None) -> Iterator[Client]:
    """Connect to a relay for the length of the block.

    With a `max_queue` the client stops reading after that number of frames.
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
