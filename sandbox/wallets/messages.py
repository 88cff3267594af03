"""Requests, responses and notifications of NIP-47, as events."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from sandbox.common.nostr import (
    Event,
    Scheme,
    Unreadable,
    decrypt,
    encrypt,
    sign_event,
)

INFO = 13194
REQUEST = 23194
RESPONSE = 23195
#: Event kinds of notifications, by encryption.
NOTIFICATIONS = {Scheme.NIP44: 23197, Scheme.NIP04: 23196}


class Refused(Exception):
    """A request is answered with an error; `code` is NIP-47's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Request:
    """A client's request; `received_at` is a Unix time."""

    id: str
    client: str
    method: str
    params: dict[str, Any]
    scheme: Scheme
    received_at: int = field(default_factory=lambda: int(time.time()))


@dataclass(frozen=True)
class Outcome:
    """The outcome of a method: a result or an error."""

    result: dict[str, Any] | None = field(default=None, repr=False)
    error: Refused | None = None

    def to_dict(self, method: str, code: str = "code") -> dict[str, Any]:
        """Return the content of a response; `code` names the field of the code."""
        error = self.error and {code: self.error.code, "message": str(self.error)}
        return {"result_type": method, "error": error, "result": self.result}


def read_request(
    event: Event, secret_key: str, allowed: tuple[Scheme, ...]
) -> tuple[Request, Refused | None]:
    """Return a request to the wallet with that key.

    If it cannot be read, it has no method, and the second value is the error for the
    client, encrypted with the wallet's preferred scheme, as Alby Hub does.
    """
    method, params, scheme, refused = "", dict[str, Any](), allowed[0], None
    try:
        scheme = _scheme_of(event, allowed)
        method, params = _read_content(event, secret_key, scheme)
    except Refused as error:
        scheme, refused = allowed[0], error
    return Request(event.id, event.pubkey, method, params, scheme), refused


def notification(
    scheme: Scheme,
    secret_key: str,
    client: str,
    type: str,
    payment: dict[str, Any],
    *,
    created_at: int | None = None,
) -> Event:
    """Return a notification of a payment, encrypted to the client."""
    text = json.dumps({"notification_type": type, "notification": payment})
    content = encrypt(scheme, secret_key, client, text)
    kind = NOTIFICATIONS[scheme]
    tags = [["p", client]]
    return sign_event(
        secret_key, kind=kind, content=content, tags=tags, created_at=created_at
    )


def _scheme_of(event: Event, allowed: tuple[Scheme, ...]) -> Scheme:
    """Return a request's encryption; without a tag NIP-04. Raises Refused."""
    named = (event.values("encryption") or [Scheme.NIP04])[0]
    if named not in allowed:
        raise Refused("UNSUPPORTED_ENCRYPTION", "This encryption is not supported.")
    return Scheme(named)


def _read_content(
    event: Event, secret_key: str, scheme: Scheme
) -> tuple[str, dict[str, Any]]:
    """Return a request's method and parameters. Raises Refused."""
    try:
        body = json.loads(decrypt(scheme, secret_key, event.pubkey, event.content))
    except Unreadable as exc:
        raise Refused("BAD_REQUEST", "The request cannot be decrypted.") from exc
    except ValueError as exc:
        raise Refused("BAD_REQUEST", "The request is not JSON.") from exc
    if not isinstance(body, dict):
        raise Refused("BAD_REQUEST", "The request is not an object.")
    method, params = body.get("method"), body.get("params", {})
    if not isinstance(method, str) or not isinstance(params, dict):
        raise Refused("BAD_REQUEST", "The request needs a method and params.")
    return method, params
