"""Stored events of a relay, read over its websocket as its own key (NIP-01, NIP-42).

Over a connection of its own, not one of `caravel.nostr.relays`: those share the time of
one thread with all payments, which a million events would use up. The relay is reached
at ZOOID_RELAYS_URL like its NIP-11 document.
"""

import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from caravel.core.db.transactions import release_connection
from caravel.nostr.events import sign_event
from relays.exceptions import RelayUnreachable

#: Events for which we ask at once: zooid sends no more, and hides those of them that a
#: key must not read. https://github.com/coracle-social/zooid `zooid/instance.go`
PAGE_SIZE = 1000
#: Bytes of events after which the rest of a page is left for the next one.
MAX_PAGE_BYTES = 16 * 1024 * 1024
#: More than khatru accepts of a client (512,000), in other escapes.
_MAX_MESSAGE = 4 * 1024 * 1024
#: Seconds to connect, for an answer to AUTH, and between two messages of a page.
_TIMEOUT = 20.0
#: Seconds for a page, and for all pages of a connection: a task has to end before the
#: sweep takes it for lost.
_PAGE_TIMEOUT, _LIFETIME = 60.0, 240.0
_AUTH_KIND = 22242
_MAX_CHALLENGE = 1_000
_HEX = re.compile(r"[0-9a-f]{64}")
_TIMES, _KINDS = range(-(2**63), 2**63), range(65_536)

Filter = dict[str, Any]


@dataclass(frozen=True)
class StoredEvent:
    """An event as the relay sent it; its signature is not verified."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    #: The event as compact JSON in UTF-8.
    line: bytes


@dataclass(frozen=True)
class Page:
    """Answer to a filter: its newest events, newest first."""

    events: tuple[StoredEvent, ...]
    #: More was on its way when the page had MAX_PAGE_BYTES.
    is_broken_off: bool = False

    @property
    def is_cut(self) -> bool:
        """Return whether more events may match, since some of a page can be hidden."""
        return self.is_broken_off or len(self.events) >= PAGE_SIZE // 2

    @property
    def is_full(self) -> bool:
        """Return whether it has as many events as the relay sends at once."""
        return self.is_broken_off or len(self.events) >= PAGE_SIZE


@contextmanager
def open_reader(host: str, secret_key: str) -> Iterator["RelayReader"]:
    """Connect to the relay at `host` and authenticate as its own key.

    Raises RelayUnreachable. Do not call inside a transaction.
    """
    release_connection()
    try:
        websocket = _connect(host)
    except (OSError, WebSocketException) as exc:
        raise RelayUnreachable("The relay was not reached.") from exc
    reader = RelayReader(websocket)
    try:
        reader.authenticate(_public_url(host), secret_key)
        yield reader
    finally:
        websocket.close()


class RelayReader:
    """Authenticated connection to a relay. Methods raise RelayUnreachable."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._requests = 0
        self._end_at = time.monotonic() + _LIFETIME

    def authenticate(self, url: str, secret_key: str) -> None:
        """Prove the key with the challenge that zooid sends to each new connection."""
        deadline = time.monotonic() + _TIMEOUT
        challenge = self._wait("AUTH", deadline)[1:2]
        if not _is_challenge(challenge):
            raise RelayUnreachable("The relay's challenge is invalid.")
        tags = [("relay", url), ("challenge", *challenge)]
        event = sign_event(secret_key, kind=_AUTH_KIND, content="", tags=tags)
        self._send("AUTH", event.to_dict())
        # Not its reason, which is a stranger's text.
        if self._wait("OK", deadline)[1:3] != [event.id, True]:
            raise RelayUnreachable(
                "The relay refuses its own key: it expects another URL or another time."
            )

    def fetch_page(self, filter: Filter) -> Page:
        """Return the newest stored events that match. Do not call in a transaction."""
        release_connection()
        self._requests += 1
        name = f"export-{self._requests}"
        # Without a limit some versions of zooid send everything.
        self._send("REQ", name, {**filter, "limit": PAGE_SIZE})
        events: list[StoredEvent] = []
        size = 0
        deadline = min(time.monotonic() + _PAGE_TIMEOUT, self._end_at)
        while size < MAX_PAGE_BYTES and len(events) < PAGE_SIZE:
            match self._receive(deadline):
                case ["EVENT", id, data] if id == name:
                    events.append(_parse_event(data, filter))
                    size += len(events[-1].line)
                case ["EOSE", id] if id == name:
                    break
                case ["CLOSED", id, *_] if id == name:
                    raise RelayUnreachable("The relay refuses to send its events.")
        self._send("CLOSE", name)
        return Page(tuple(events), is_broken_off=size >= MAX_PAGE_BYTES)

    def _wait(self, verb: str, deadline: float) -> list[Any]:
        while (message := self._receive(deadline))[0] != verb:
            pass
        return message

    def _send(self, *message: object) -> None:
        try:
            self._websocket.send(json.dumps(message, separators=(",", ":")))
        except (OSError, WebSocketException) as exc:
            raise _lost() from exc

    def _receive(self, deadline: float) -> list[Any]:
        """Return the next message, a list with at least one element."""
        timeout = min(_TIMEOUT, deadline - time.monotonic())
        try:
            message = json.loads(self._websocket.recv(max(timeout, 0.0)))
        except TimeoutError as exc:
            raise RelayUnreachable("The relay did not answer in time.") from exc
        except (OSError, WebSocketException) as exc:
            raise _lost() from exc
        except (ValueError, RecursionError) as exc:
            raise _invalid() from exc
        if not isinstance(message, list) or not message:
            raise _invalid()
        return message


def _connect(host: str) -> ClientConnection:
    """Connect to a relay. Raises OSError or WebSocketException."""
    address = urlsplit(settings.ZOOID_RELAYS_URL)
    is_secure = (address.scheme or urlsplit(settings.APP_URL).scheme) == "https"
    options: dict[str, Any] = {}
    if is_secure:
        options["ssl"] = ssl.create_default_context()
    if address.hostname:
        options["address"] = (address.hostname, address.port or (80, 443)[is_secure])
        # khatru derives from it the URL that it expects in AUTH.
        scheme = urlsplit(settings.APP_URL).scheme
        options["additional_headers"] = {"X-Forwarded-Proto": scheme}
    if address.hostname and is_secure:
        options["server_hostname"] = address.hostname
    return connect(
        f"{'wss' if is_secure else 'ws'}://{host}/",
        proxy=None,
        compression=None,
        open_timeout=_TIMEOUT,
        close_timeout=1,
        max_size=_MAX_MESSAGE,
        legacy=True,
        **options,
    )


def _public_url(host: str) -> str:
    secure = settings.APP_URL.startswith("https:")
    return f"{'wss' if secure else 'ws'}://{host}"


def _is_challenge(values: list[Any]) -> bool:
    return (
        bool(values) and isinstance(values[0], str) and len(values[0]) < _MAX_CHALLENGE
    )


def _parse_event(data: object, filter: Filter) -> StoredEvent:
    """Check the fields by which events are paged, and keep the rest as it is.

    A newer event than was asked for would send the pages in a circle.
    """
    since, until = filter.get("since", _TIMES[0]), filter.get("until", _TIMES[-1])
    match data:
        case {
            "id": str(id),
            "pubkey": str(pubkey),
            "created_at": int(created_at),
            "kind": int(kind),
        } if (
            _HEX.fullmatch(id)
            and _HEX.fullmatch(pubkey)
            and since <= created_at <= until
            and kind in _KINDS
        ):
            text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
            # JSON allows half a surrogate pair, UTF-8 does not: it stays an escape.
            line = text.encode(errors="backslashreplace")
            return StoredEvent(id, pubkey, created_at, kind, line)
    raise _invalid()


def _lost() -> RelayUnreachable:
    return RelayUnreachable("The relay closed the connection.")


def _invalid() -> RelayUnreachable:
    return RelayUnreachable("The relay's answer is not one of NIP-01.")
