"""Signed requests to the sandbox zooid, and configurations for it."""

import json
from typing import Any

import requests

from caravel.nostr.http_auth import authorization
from sandbox.common.nostr import generate_secret_key, pubkey_of
from sandbox.zooid import Zooid

#: The key that may manage relays, and two people.
KEY = generate_secret_key()
ANN, BEN = (pubkey_of(generate_secret_key()) for _ in range(2))


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


def control(zooid: Zooid, method: str, path: str, /, **body: Any) -> requests.Response:
    """Send a request to the control API."""
    url = f"{zooid.url}/_sandbox/{path}"
    return requests.request(method, url, json=body, timeout=60)


def fetch(zooid: Zooid, host: str, accept: str = "application/nostr+json") -> Any:
    """Return the response of a relay's host, by default with its NIP-11 document."""
    headers = {"Host": host, "Accept": accept}
    return requests.get(zooid.url, headers=headers, timeout=60)
