"""Signing HTTP requests with a Nostr key (NIP-98), the caller's half."""

import hashlib
import secrets
from base64 import b64encode

from caravel.nostr.events import sign_event

HTTP_AUTH = 27235


def authorization(secret_key: str, *, url: str, method: str, body: bytes = b"") -> str:
    """Return the header `Authorization` that signs one request.

    The URL is the one that is asked, as the server sees it, with its query.
    """
    tags = [
        ("u", url),
        ("method", method.upper()),
        # Else the same request twice in a second would be one event, whose second use
        # a server may take for a replay.
        ("nonce", secrets.token_hex(8)),
    ]
    if body:
        tags.append(("payload", hashlib.sha256(body).hexdigest()))
    event = sign_event(secret_key, kind=HTTP_AUTH, content="", tags=tags)
    return f"Nostr {b64encode(event.to_json().encode()).decode()}"
