"""Signing of HTTP requests with a Nostr key (NIP-98), for clients."""

import hashlib
import secrets
from base64 import b64encode

from caravel.nostr.events import sign_event

HTTP_AUTH = 27235


def authorization(secret_key: str, *, url: str, method: str, body: bytes = b"") -> str:
    """Return the `Authorization` header that signs one request.

    `url` is the complete URL as the server sees it, with the query.
    """
    tags = [
        ("u", url),
        ("method", method.upper()),
        # Without it, two equal requests in one second are the same event, and a server
        # may reject the second as a replay.
        ("nonce", secrets.token_hex(8)),
    ]
    if body:
        tags.append(("payload", hashlib.sha256(body).hexdigest()))
    event = sign_event(secret_key, kind=HTTP_AUTH, content="", tags=tags)
    return f"Nostr {b64encode(event.to_json().encode()).decode()}"
