"""Relays that send as much as they can, each in its own way."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from caravel.nostr.relays.dial import Endpoint
from caravel.tests.support.hostile_relay import Client, scripted_relay

_KEY, _SIG = "ab" * 32, "cd" * 64
Flood = Callable[[str, str], bytes]


def _text(content: str) -> bytes:
    """Return a text frame (RFC 6455, 5.2)."""
    data = content.encode()
    return b"\x81\x7f" + len(data).to_bytes(8, "big") + data


def _event(subscription: str, **fields: object) -> bytes:
    event = {"id": _KEY, "pubkey": _KEY, "sig": _SIG, "kind": 1, "content": ""}
    event |= {"created_at": 1, "tags": []} | fields
    return _text(json.dumps(["EVENT", subscription, event]))


def nested_lists(subscription: str, author: str) -> bytes:
    """Return an event that consists of empty lists."""
    return _text(f'["EVENT","{subscription}",[{",".join(["[]"] * 20_000)}]]')


def large_nested_lists(subscription: str, author: str) -> bytes:
    """Return a list of lists, in messages larger than a stranger's may be."""
    return _text(f'["EVENT","{subscription}",[{",".join(["[[],[]]"] * 60_000)}]]')


def forged_events(subscription: str, author: str) -> bytes:
    """Return an event that must be hashed to see that it is forged."""
    return _event(subscription, pubkey=author, content="x" * 50_000)


def small_events(subscription: str, author: str) -> bytes:
    """Return many small forged events."""
    return _event(subscription, pubkey=author) * 200


def pings(subscription: str, author: str) -> bytes:
    """Return pings, of which each must be answered."""
    return b"\x89\x00" * 20_000


def fragments(subscription: str, author: str) -> bytes:
    """Return a message of 3,000 frames of a byte each."""
    return b"\x01\x01x" + b"\x00\x01x" * 3_000 + b"\x80\x01x"


FLOODS: list[Flood] = [
    *(nested_lists, large_nested_lists, forged_events, small_events),
    *(pings, fragments),
]


@contextmanager
def flooding_relays(
    flood: Flood, hosts: Sequence[str], *, author: str = _KEY
) -> Iterator[list[Endpoint]]:
    """Run a relay at each address that floods every subscription."""

    def script(client: Client) -> None:
        data = flood(client.receive_until("REQ")[1], author)
        while True:
            # Below websockets, whose frames would cost the test more than us.
            client.websocket.socket.sendall(data)

    with ExitStack() as relays:
        yield [relays.enter_context(scripted_relay(script, host=h)) for h in hosts]
