"""Sign requests as NIP-98 requires, and in every invalid way."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.utils import timezone

from caravel.core.web.handler import Utf8Handler
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import sign_event
from tenants.models import UsedAuthEvent


@dataclass(frozen=True)
class UnsignedRequest:
    """A request about to be sent, and the key to sign it with."""

    key: str = field(repr=False)
    method: str
    url: str
    body: bytes


Sign = Callable[[UnsignedRequest], str | None]


def sign_request(
    request: UnsignedRequest,
    *,
    kind: int = 27235,
    seconds: int = 0,
    payload: str | None = None,
    **changes: Any,
) -> str:
    """Return the Authorization header, with `changes` made after signing."""
    tags = [
        ("u", request.url),
        ("method", request.method),
        ("nonce", secrets.token_hex(8)),
    ]
    if payload is None and request.body:
        payload = hashlib.sha256(request.body).hexdigest()
    if payload:
        tags.append(("payload", payload))
    event = sign_event(
        request.key,
        kind=kind,
        content="",
        tags=tags,
        created_at=int(time.time()) + seconds,
    )
    return authorization_header(json.dumps({**event.to_dict(), **changes}).encode())


def authorization_header(content: bytes) -> str:
    return f"Nostr {base64.b64encode(content).decode()}"


def _sign_with_used_event(request: UnsignedRequest) -> str:
    authorization = sign_request(request)
    event = json.loads(base64.b64decode(authorization.removeprefix("Nostr ")))
    UsedAuthEvent.objects.create(
        event_id=event["id"], expires_at=timezone.now() + timedelta(minutes=1)
    )
    return authorization


def _invert_payload_presence(request: UnsignedRequest) -> str:
    """Omit the payload of a body, or sign one for a request without a body."""
    payload = "" if request.body else hashlib.sha256(b"{}").hexdigest()
    return sign_request(request, payload=payload)


#: Invalid signatures by name, each with the expected error code.
INVALID_SIGNATURES: dict[str, tuple[Sign, str]] = {
    "nothing": (lambda request: None, "auth-missing"),
    "blank": (lambda request: "", "auth-missing"),
    "another scheme": (
        lambda request: sign_request(request).replace("Nostr", "Bearer"),
        "auth-malformed",
    ),
    "a scheme only": (lambda request: "Nostr", "auth-malformed"),
    "no base64": (lambda request: "Nostr ***", "auth-malformed"),
    "no JSON": (lambda request: authorization_header(b"\xff"), "auth-malformed"),
    "no event": (lambda request: authorization_header(b'{"id": []}'), "auth-malformed"),
    "two headers in one": (
        lambda request: ",".join([sign_request(request)] * 2),
        "auth-malformed",
    ),
    "another id": (
        lambda request: sign_request(request, id="0" * 64),
        "auth-not-signed",
    ),
    "another signature": (
        lambda request: sign_request(request, sig="0" * 128),
        "auth-not-signed",
    ),
    "in another's name": (
        lambda request: sign_request(
            replace(request, key=generate_secret_key()), pubkey=pubkey_of(request.key)
        ),
        "auth-not-signed",
    ),
    "another kind": (lambda request: sign_request(request, kind=1), "auth-wrong-kind"),
    "too late": (lambda request: sign_request(request, seconds=-70), "auth-expired"),
    "too early": (lambda request: sign_request(request, seconds=70), "auth-too-early"),
    "another query": (
        lambda request: sign_request(replace(request, url=f"{request.url}?x=1")),
        "auth-wrong-url",
    ),
    "another host": (
        lambda request: sign_request(
            replace(request, url=f"https://x.example{request.url}")
        ),
        "auth-wrong-url",
    ),
    "another method": (
        lambda request: sign_request(replace(request, method="BREW")),
        "auth-wrong-method",
    ),
    "another body": (
        lambda request: sign_request(request, payload="0" * 64),
        "auth-wrong-payload",
    ),
    "a second time": (_sign_with_used_event, "auth-reused"),
}
#: Its error code depends on whether the request has a body.
WRONG_PAYLOAD_PRESENCE: Sign = _invert_payload_presence


def expected_code(name: str, request: UnsignedRequest) -> str:
    """Return the error code expected for an invalid signature."""
    if name != "no payload":
        return INVALID_SIGNATURES[name][1]
    return "auth-payload-missing" if request.body else "auth-wrong-payload"


def invalid_signature(name: str) -> Sign:
    """Return the function that makes an invalid signature."""
    return (
        WRONG_PAYLOAD_PRESENCE if name == "no payload" else INVALID_SIGNATURES[name][0]
    )


INVALID_SIGNATURE_NAMES = (*INVALID_SIGNATURES, "no payload")


class SigningApp:
    """WSGI application that signs each request before it handles it.

    Signs with `key` by calling `sign`. `sent` is the last request, `is_url_rewritten`
    tells that Django normalized its URL: the signature then fails for the URL alone.
    """

    def __init__(self) -> None:
        self._app = Utf8Handler()
        self.key = ""
        self.sign: Sign = lambda request: None
        self.sent = UnsignedRequest(key="", method="", url="", body=b"")
        self.is_url_rewritten = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = BytesIO(body)
        query = environ.get("QUERY_STRING")
        url = environ["REQUEST_URI"].partition("?")[0] + (query and f"?{query}")
        self.sent = UnsignedRequest(
            key=self.key,
            method=environ["REQUEST_METHOD"],
            url=settings.APP_URL + url,
            body=body,
        )
        request = WSGIRequest({**environ, "wsgi.input": BytesIO()})
        self.is_url_rewritten = url != request.get_full_path()
        environ.pop("HTTP_AUTHORIZATION", None)
        if self.key and (authorization := self.sign(self.sent)) is not None:
            environ["HTTP_AUTHORIZATION"] = authorization
        return self._app(environ, start_response)
