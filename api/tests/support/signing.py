"""Signing requests as NIP-98 has it, and in each way that it has not."""

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
class Unsigned:
    """A request as it will be sent, and the key that is to sign it."""

    key: str = field(repr=False)
    method: str
    url: str
    body: bytes


Sign = Callable[[Unsigned], str | None]


def signed(
    request: Unsigned,
    *,
    kind: int = 27235,
    seconds: int = 0,
    payload: str | None = None,
    **changes: Any,
) -> str:
    """Return the header that signs a request, changed after that as is said."""
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
    return header(json.dumps({**event.to_dict(), **changes}).encode())


def header(content: bytes) -> str:
    return f"Nostr {base64.b64encode(content).decode()}"


def _used(request: Unsigned) -> str:
    given = signed(request)
    event = json.loads(base64.b64decode(given.removeprefix("Nostr ")))
    UsedAuthEvent.objects.create(
        event_id=event["id"], expires_at=timezone.now() + timedelta(minutes=1)
    )
    return given


def _without_payload(request: Unsigned) -> str:
    """Leave the body out; of a request without one, sign one."""
    payload = "" if request.body else hashlib.sha256(b"{}").hexdigest()
    return signed(request, payload=payload)


#: Each wrong way, and the code that it is refused by.
WRONG: dict[str, tuple[Sign, str]] = {
    "nothing": (lambda request: None, "auth-missing"),
    "blank": (lambda request: "", "auth-missing"),
    "another scheme": (
        lambda request: signed(request).replace("Nostr", "Bearer"),
        "auth-malformed",
    ),
    "a scheme only": (lambda request: "Nostr", "auth-malformed"),
    "no base64": (lambda request: "Nostr ***", "auth-malformed"),
    "no JSON": (lambda request: header(b"\xff"), "auth-malformed"),
    "no event": (lambda request: header(b'{"id": []}'), "auth-malformed"),
    "two headers in one": (
        lambda request: ",".join([signed(request)] * 2),
        "auth-malformed",
    ),
    "another id": (lambda request: signed(request, id="0" * 64), "auth-not-signed"),
    "another signature": (
        lambda request: signed(request, sig="0" * 128),
        "auth-not-signed",
    ),
    "in another's name": (
        lambda request: signed(
            replace(request, key=generate_secret_key()), pubkey=pubkey_of(request.key)
        ),
        "auth-not-signed",
    ),
    "another kind": (lambda request: signed(request, kind=1), "auth-wrong-kind"),
    "too late": (lambda request: signed(request, seconds=-70), "auth-expired"),
    "too early": (lambda request: signed(request, seconds=70), "auth-too-early"),
    "another query": (
        lambda request: signed(replace(request, url=f"{request.url}?x=1")),
        "auth-wrong-url",
    ),
    "another host": (
        lambda request: signed(replace(request, url=f"https://x.example{request.url}")),
        "auth-wrong-url",
    ),
    "another method": (
        lambda request: signed(replace(request, method="BREW")),
        "auth-wrong-method",
    ),
    "a method in small letters": (
        lambda request: signed(replace(request, method=request.method.lower())),
        "auth-wrong-method",
    ),
    "another body": (
        lambda request: signed(request, payload="0" * 64),
        "auth-wrong-payload",
    ),
    "a second time": (_used, "auth-reused"),
}
#: This one is refused for two reasons, as there is a body or none.
WITHOUT_PAYLOAD: Sign = _without_payload


def refusal(way: str, request: Unsigned) -> str:
    """Return the code that a request signed in a wrong way is refused by."""
    if way != "no payload":
        return WRONG[way][1]
    return "auth-payload-missing" if request.body else "auth-wrong-payload"


def sign_wrongly(way: str) -> Sign:
    """Return the wrong way of that name."""
    return WITHOUT_PAYLOAD if way == "no payload" else WRONG[way][0]


WAYS = (*WRONG, "no payload")


class SigningApp:
    """The application, with a caller in front of it who signs what is sent.

    `sign` is how, with which `key`; `sent` is what was signed last, and `is_respelt`
    whether Django spells its address otherwise, so that nothing else is looked at.
    """

    def __init__(self) -> None:
        self._app = Utf8Handler()
        self.key = ""
        self.sign: Sign = lambda request: None
        self.sent = Unsigned(key="", method="", url="", body=b"")
        self.is_respelt = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = BytesIO(body)
        query = environ.get("QUERY_STRING")
        address = environ["REQUEST_URI"].partition("?")[0] + (query and f"?{query}")
        self.sent = Unsigned(
            key=self.key,
            method=environ["REQUEST_METHOD"],
            url=settings.APP_URL + address,
            body=body,
        )
        request = WSGIRequest({**environ, "wsgi.input": BytesIO()})
        self.is_respelt = address != request.get_full_path()
        environ.pop("HTTP_AUTHORIZATION", None)
        if self.key and (given := self.sign(self.sent)) is not None:
            environ["HTTP_AUTHORIZATION"] = given
        return self._app(environ, start_response)
