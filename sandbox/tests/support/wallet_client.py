"""A minimal NIP-47 client for tests; it shows requests and replies unchanged."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.common.nostr import (
    Event,
    Scheme,
    decrypt,
    encrypt,
    parse_event,
    pubkey_of,
    sign_event,
)
from sandbox.tests.support.relay_client import Client, connected

KINDS = [23195, 23196, 23197]


class WalletClient:
    """A client with one NWC URL, on one connection to its first relay."""

    def __init__(self, client: Client, url: str, scheme: Scheme) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self.client = client
        self.scheme = scheme
        self.wallet = str(parts.hostname)
        self.secret = query["secret"][0]
        self.pubkey = pubkey_of(self.secret)
        self._events: list[Event] = []
        client.send("REQ", "replies", {"kinds": KINDS, "limit": 0})
        assert client.receive() == ["EOSE", "replies"]

    def request(
        self, method: str, *, expires_at: int | None = None, **params: Any
    ) -> Event:
        """Return a signed request without sending it."""
        return self.wrap(
            json.dumps({"method": method, "params": params}), expires_at=expires_at
        )

    def wrap(self, text: str, *, expires_at: int | None = None) -> Event:
        """Return an encrypted request with any content."""
        tags = [["p", self.wallet]]
        if self.scheme is Scheme.NIP44:
            tags.append(["encryption", "nip44_v2"])
        if expires_at is not None:
            tags.append(["expiration", str(expires_at)])
        content = encrypt(self.scheme, self.secret, self.wallet, text)
        return sign_event(self.secret, kind=23194, content=content, tags=tags)

    def send(self, event: Event) -> None:
        """Send a request without waiting."""
        self.client.send("EVENT", event.to_dict())

    def next_reply(self, event: Event) -> Event:
        """Return the next event that refers to a request, from any signer."""
        return self._next(lambda reply: event.id in reply.values("e"))

    def next_notification(self, kind: int) -> dict[str, Any]:
        """Return the content of this client's next notification of that kind."""
        scheme = Scheme.NIP44 if kind == 23197 else Scheme.NIP04
        notification = self._next(
            lambda event: event.kind == kind and event.values("p") == [self.pubkey]
        )
        return self._object(
            decrypt(scheme, self.secret, self.wallet, notification.content)
        )

    def read(self, reply: Event) -> dict[str, Any]:
        """Return the content of a reply."""
        text = decrypt(self.scheme, self.secret, self.wallet, reply.content)
        return self._object(text)

    def answer(self, event: Event) -> dict[str, Any]:
        """Send a request; return the content of its first reply."""
        self.send(event)
        return self.read(self.next_reply(event))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method that must succeed; return its result."""
        content = self.answer(self.request(method, **params))
        assert content["result_type"] == method
        assert content["error"] is None
        return self._object(json.dumps(content["result"]))

    def error(self, method: str, **params: Any) -> str:
        """Call a method that must fail; return the error code."""
        content = self.answer(self.request(method, **params))
        assert content["result_type"] == method
        assert content["result"] is None
        assert content["error"]["message"]
        return str(content["error"]["code"])

    def earlier(self) -> list[Event]:
        """Return the replies that arrived before the reply to a new request."""
        self.answer(self.request("get_info"))
        return [event for event in self._events if event.kind == 23195]

    def _next(self, matches: Any) -> Event:
        for event in self._events:
            if matches(event):
                self._events.remove(event)
                return event
        while True:
            message = self.client.receive()
            if message[0] == "EVENT":
                event = parse_event(message[2])
                if matches(event):
                    return event
                self._events.append(event)

    def _object(self, text: str) -> dict[str, Any]:
        content = json.loads(text)
        assert isinstance(content, dict)
        return content


@contextmanager
def wallet_client(url: str, scheme: Scheme = Scheme.NIP44) -> Iterator[WalletClient]:
    """Connect to a wallet for the length of the block."""
    relay = parse_qs(urlsplit(url).query)["relay"][0]
    with connected(relay) as client:
        yield WalletClient(client, url, scheme)
