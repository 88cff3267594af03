"""Signed requests to the sandbox zooid, and configurations for it."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import requests
from websockets.sync.client import connect

from caravel.nostr.http_auth import authorization
from sandbox.common.nostr import generate_secret_key, pubkey_of, sign_event
from sandbox.tests.support.relay_client import Client
from sandbox.zooid import Zooid

#: The key that may manage relays, and those of two people.
KEY, ANN_KEY, BEN_KEY = (generate_secret_key() for _ in range(3))
ANN, BEN = pubkey_of(ANN_KEY), pubkey_of(BEN_KEY)
#: The host of the relay that `create` creates.
HOST = "one.relays.example"


def send(
    zooid: Zooid,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str = KEY,
    **options: Any,
) -> requests.Response:
    """Send a signed request; a given `Authorization` header replaces the signature."""
    body = b"" if body is None else json.dumps(body).encode()
    url = f"{zooid.url}{path}"
    signature = authorization(key, url=url, method=method, body=body)
    headers = {"Authorization": signature, **options.pop("headers", {})}
    options = {"timeout": 10, "allow_redirects": False, **options}
    return requests.request(method, url, data=body, headers=headers, **options)


def config(name: str = "one", **more: Any) -> dict[str, Any]:
    """Return a configuration of a relay that ANN owns."""
    return {
        "host": f"{name}.relays.example",
        "schema": f"relay_{name}",
        "secret": generate_secret_key(),
        "info": {"name": name, "pubkey": ANN},
        **more,
    }


class Served(Protocol):
    """A zooid of this process or of another one."""

    @property
    def url(self) -> str: ...


@contextmanager
def connected(zooid: Served, host: str = HOST) -> Iterator[Client]:
    """Connect to a relay without authentication."""
    sock = socket.create_connection(("127.0.0.1", int(zooid.url.rpartition(":")[2])))
    with connect(f"ws://{host}", sock=sock, compression=None) as wire:
        yield Client(wire)


@contextmanager
def member(zooid: Zooid, key: str, host: str = HOST) -> Iterator[Client]:
    """Connect to a relay and authenticate."""
    with connected(zooid, host) as client:
        assert authenticate(client, key, f"wss://{host}") == (True, "")
        yield client


def authenticate(client: Client, key: str, url: str) -> tuple[bool, str]:
    """Answer the challenge; return `accepted` and the text of the OK."""
    verb, challenge = client.receive()
    assert verb == "AUTH"
    tags = [("relay", url), ("challenge", challenge)]
    event = sign_event(key, kind=22_242, content="", tags=tags)
    client.send("AUTH", event.to_dict())
    _, event_id, accepted, text = client.receive()
    assert event_id == event.id
    return accepted, text


def control(zooid: Served, method: str, path: str, /, **body: Any) -> requests.Response:
    """Send a request to the control API."""
    url = f"{zooid.url}/_sandbox/{path}"
    return requests.request(method, url, json=body, timeout=60)


def create(zooid: Zooid, relay_id: str = "a", **more: Any) -> dict[str, Any]:
    """Create a relay; return its configuration."""
    relay = config(**more)
    assert send(zooid, "POST", f"/relay/{relay_id}", relay).ok
    return relay


def patch(zooid: Zooid, relay_id: str = "a", /, **body: Any) -> None:
    """Patch a relay."""
    assert send(zooid, "PATCH", f"/relay/{relay_id}", body).ok


def fetch(zooid: Zooid, host: str, accept: str = "application/nostr+json") -> Any:
    """Return the response of a relay's host, by default with its NIP-11 document."""
    headers = {"Host": host, "Accept": accept}
    return requests.get(zooid.url, headers=headers, timeout=60)
