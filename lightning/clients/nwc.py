"""Nostr Wallet Connect (NIP-47): requests to a wallet over Nostr relays.

https://github.com/nostr-protocol/nips/blob/master/47.md

Amounts are in millisatoshi. Every call releases the database connection before it
waits. Errors are subclasses of `lightning.exceptions.WalletError`; the class says what
is known about the outcome.
"""

import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from queue import Full, Queue
from typing import Any

import structlog
from django.conf import settings

from caravel.core.db.transactions import release_connection
from caravel.core.exceptions import CaravelError
from caravel.nostr.encryption import Scheme, Unreadable, decrypt, encrypt
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays.dial import RelayUnreachable
from caravel.nostr.relays.pool import FetchResult, get_pool
from lightning.clients.nwc_replies import (
    Budget,
    Info,
    Issued,
    Lookup,
    is_hash,
    is_preimage_of,
    read_amount,
    read_budget,
    read_info,
    read_issued,
    read_lookup,
    read_reply,
)
from lightning.clients.nwc_uri import NwcUri
from lightning.exceptions import (
    InvalidWalletReply,
    NoWalletReply,
    RequestNotSent,
    WalletError,
)

logger = structlog.get_logger(__name__)

INFO, REQUEST, RESPONSE = 13194, 23194, 23195
NOTIFICATIONS = (23196, 23197)  # NIP-04, NIP-44
#: Seconds to wait for a response, except for payments: those have NWC_TIMEOUT.
TIMEOUT = 15.0
_INFO_TIMEOUT = 5.0
#: Seconds that a wallet's encryption scheme is cached, with and without an info event.
_SCHEME_TTL, _DEFAULT_SCHEME_TTL = 600.0, 30.0
#: Notifications: maximum per call, maximum in a queue, seconds between two calls.
_MAX_NOTIFICATIONS, _MAX_QUEUED, _NOTIFICATION_PAUSE = 100, 1_000, 0.5


@dataclass(frozen=True)
class PreparedRequest:
    """A signed and encrypted request: its id is known before it is sent."""

    method: str
    event: Event

    @property
    def id(self) -> str:
        return self.event.id


class Wallet:
    """One connection to a wallet.

    `private_allowed`: its relays may have private addresses.
    """

    def __init__(self, uri: NwcUri, *, private_allowed: bool | None = None) -> None:
        if private_allowed is None:
            private_allowed = settings.NWC_ALLOW_PRIVATE_RELAYS
        self.uri = uri
        self._endpoints = uri.endpoints(private_allowed=private_allowed)

    def __repr__(self) -> str:
        return f"<Wallet {self.uri!r}>"

    # --- calls

    def get_info(self) -> Info:
        """Return the wallet's name, network, methods and notifications."""
        return read_info(self._call("get_info", {}))

    def get_balance(self) -> int:
        """Return the balance in millisatoshi, or the budget: wallets differ."""
        return read_amount(self._call("get_balance", {}).get("balance"))

    def get_budget(self) -> Budget | None:
        """Return the connection's budget, None if it has none."""
        return read_budget(self._call("get_budget", {}))

    def make_invoice(
        self, *, amount_msat: int, description: str, expiry: int
    ) -> Issued:
        """Have the wallet make an invoice that expires in `expiry` seconds.

        The caller must compare the result with the request.
        """
        params = {"amount": amount_msat, "description": description, "expiry": expiry}
        return read_issued(self._call("make_invoice", params))

    def lookup_invoices(
        self, payment_hashes: Sequence[str], *, timeout: float | None = None
    ) -> dict[str, Lookup | WalletError]:
        """Look up several of the wallet's own invoices at once.

        Returns, by payment hash, the answer or the error; `timeout` is in seconds and
        defaults to TIMEOUT. Raises RequestNotSent if no relay can be reached.
        """
        requests = [
            self._prepare("lookup_invoice", {"payment_hash": payment_hash})
            for payment_hash in payment_hashes
        ]
        replies = self._exchange(requests, TIMEOUT if timeout is None else timeout)
        return {
            payment_hash: _lookup_in(reply, payment_hash)
            for payment_hash, reply in zip(payment_hashes, replies, strict=True)
        }

    def lookup_invoice(self, payment_hash: str) -> Lookup:
        """Look up one of the wallet's own invoices."""
        answer = self.lookup_invoices([payment_hash])[payment_hash]
        if isinstance(answer, WalletError):
            raise answer
        return answer

    def prepare_payment(self, *, bolt11: str, expires_at: datetime) -> PreparedRequest:
        """Build the request to pay an invoice, without sending it.

        A wallet that gets it after `expires_at` should ignore it (NIP-40); some do not.
        Raises RequestNotSent if no relay can be reached.
        """
        params = {"invoice": bolt11}
        return self._prepare("pay_invoice", params, expires_at=expires_at)

    def pay_invoice(self, request: PreparedRequest, *, payment_hash: str) -> str:
        """Send a prepared payment and return the preimage, in hex.

        Never call it twice for one request. Raises WalletRefused or RequestNotSent if
        nothing was spent, any other WalletError if that is unknown.
        """
        (reply,) = self._exchange([request], settings.NWC_TIMEOUT)
        preimage = _result_of(reply).get("preimage")
        if not is_preimage_of(payment_hash, preimage):
            raise InvalidWalletReply(
                "The wallet's preimage does not match the payment hash."
            )
        return str(preimage)

    def on_payment_received(self, callback: Callable[[list[str]], None]) -> None:
        """Call `callback` with the payment hashes in `payment_received` notifications.

        It runs in its own thread and gets each hash once, although most wallets notify
        in both encryptions and relays repeat events after a reconnect. Notifications
        that arrive together are passed together. They are hints, not proof.
        """
        events: Queue[Event] = Queue(_MAX_QUEUED)
        threading.Thread(
            target=self._pass_on, args=(events, callback), name="hints", daemon=True
        ).start()
        authors = [self.uri.pubkey]
        since = int(time.time()) - 60
        filters = [{"kinds": [*NOTIFICATIONS], "authors": authors, "since": since}]
        get_pool().listen(
            self._endpoints,
            filters,
            lambda event: self._enqueue(event, events),
            secret_key=self.uri.secret,
        )

    # --- the protocol

    def _call(self, method: str, params: Mapping[str, object]) -> dict[str, Any]:
        (reply,) = self._exchange([self._prepare(method, params)], TIMEOUT)
        return _result_of(reply)

    def _prepare(
        self,
        method: str,
        params: Mapping[str, object],
        *,
        expires_at: datetime | None = None,
    ) -> PreparedRequest:
        scheme = self._scheme()
        body = json.dumps({"method": method, "params": params})
        # Whole seconds, rounded up: the request must not expire early.
        end = expires_at.timestamp() if expires_at else time.time() + TIMEOUT
        until = math.ceil(end)
        tags = [("p", self.uri.pubkey), ("expiration", str(until))]
        if scheme is Scheme.NIP44:
            tags.append(("encryption", scheme.value))
        event = sign_event(
            self.uri.secret,
            kind=REQUEST,
            content=encrypt(scheme, self.uri.secret, self.uri.pubkey, body),
            tags=tags,
        )
        return PreparedRequest(method, event)

    def _exchange(
        self, requests: Sequence[PreparedRequest], timeout: float
    ) -> list[dict[str, Any] | WalletError]:
        """Send requests and return the result of each, or the error.

        The pool subscribes before it publishes: relays do not store ephemeral events,
        so an earlier response would be lost. The first response that names the request
        in its `e` tag counts.
        """
        release_connection()
        answers = get_pool().request_all(
            self._endpoints,
            [request.event for request in requests],
            author=self.uri.pubkey,
            kind=RESPONSE,
            timeout=timeout,
            secret_key=self.uri.secret,
        )
        return [
            self._read(request, answer)
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _read(
        self, request: PreparedRequest, answer: Event | CaravelError
    ) -> dict[str, Any] | WalletError:
        if isinstance(answer, RelayUnreachable):
            return RequestNotSent(answer.message)
        if isinstance(answer, CaravelError):
            return NoWalletReply("The wallet does not answer.")
        try:
            return read_reply(request.method, self._decrypt(answer))
        except WalletError as exc:
            return exc

    def _decrypt(self, event: Event) -> dict[str, Any]:
        scheme = Scheme.NIP04 if "?iv=" in event.content else Scheme.NIP44
        try:
            text = decrypt(scheme, self.uri.secret, self.uri.pubkey, event.content)
            content = json.loads(text)
        except (Unreadable, ValueError, RecursionError) as exc:
            raise InvalidWalletReply("The wallet's answer is unreadable.") from exc
        if not isinstance(content, dict):
            raise InvalidWalletReply("The wallet's answer is unreadable.")
        return content

    def _enqueue(self, event: Event, events: Queue[Event]) -> None:
        """Queue a notification, or drop it if the queue is full.

        A relay may send anything, in any amount; polling finds what is dropped.
        """
        if event.pubkey == self.uri.pubkey and event.kind in NOTIFICATIONS:
            with suppress(Full):
                events.put_nowait(event)

    def _pass_on(
        self, events: Queue[Event], callback: Callable[[list[str]], None]
    ) -> None:
        reported: deque[str] = deque(maxlen=_MAX_QUEUED)
        while True:
            hashes = [self._received_hash(event) for event in _drain(events)]
            new = [
                each for each in dict.fromkeys(hashes) if each and each not in reported
            ]
            if not new:
                continue
            try:
                callback(new)
            except Exception:  # of any kind, since this thread must go on
                logger.exception("hints_lost", payment_hashes=new)
            reported.extend(new)
            time.sleep(_NOTIFICATION_PAUSE)  # collect those that arrive meanwhile

    def _received_hash(self, event: Event) -> str | None:
        """Return the payment hash in a `payment_received` notification, else None."""
        try:
            content = self._decrypt(event)
        except InvalidWalletReply:
            return None  # for another connection of the wallet
        notification = content.get("notification")
        if not isinstance(notification, dict):
            return None
        payment_hash = notification.get("payment_hash")
        is_received = content.get("notification_type") == "payment_received"
        return str(payment_hash) if is_received and is_hash(payment_hash) else None

    def _scheme(self) -> Scheme:
        """Return the encryption to use: NIP-44 if the wallet's info event offers it."""
        key = (self.uri.pubkey, self.uri.relays)
        cached = _schemes.get(key)
        if cached is None or time.monotonic() > cached[1]:
            cached = self._fetch_scheme()
            if len(_schemes) > 10_000:
                _schemes.clear()
            _schemes[key] = cached
        return cached[0]

    def _fetch_scheme(self) -> tuple[Scheme, float]:
        """Return the scheme, and the monotonic time until which it is cached."""
        release_connection()
        filters = [{"kinds": [INFO], "authors": [self.uri.pubkey], "limit": 1}]
        try:
            result = get_pool().fetch(
                self._endpoints,
                filters,
                timeout=_INFO_TIMEOUT,
                secret_key=self.uri.secret,
            )
        except RelayUnreachable as exc:
            raise RequestNotSent(exc.message) from exc
        if not result.answered and not result.events:
            raise RequestNotSent("The wallet's relays do not answer.")
        ttl = _SCHEME_TTL if result.events else _DEFAULT_SCHEME_TTL
        return _offered_scheme(result, self.uri.pubkey), time.monotonic() + ttl


_schemes: dict[tuple[str, tuple[str, ...]], tuple[Scheme, float]] = {}


def clear_scheme_cache() -> None:
    """Forget the cached encryption schemes of all wallets."""
    _schemes.clear()


def _drain(events: Queue[Event]) -> list[Event]:
    """Return the queued events, waiting for the first."""
    drained = [events.get()]
    while len(drained) < _MAX_NOTIFICATIONS and not events.empty():
        drained.append(events.get())
    return drained


def _offered_scheme(result: FetchResult, pubkey: str) -> Scheme:
    infos = [e for e in result.events if e.kind == INFO and e.pubkey == pubkey]
    latest = max(infos, key=lambda event: event.created_at, default=None)
    offered = " ".join(latest.values("encryption")) if latest else ""
    # NIP-47 says spaces; some wallets separate with commas.
    is_offered = Scheme.NIP44 in re.split(r"[\s,]+", offered)
    return Scheme.NIP44 if is_offered else Scheme.NIP04


def _result_of(reply: dict[str, Any] | WalletError) -> dict[str, Any]:
    if isinstance(reply, WalletError):
        raise reply
    return reply


def _lookup_in(
    reply: dict[str, Any] | WalletError, payment_hash: str
) -> Lookup | WalletError:
    try:
        return read_lookup(payment_hash, _result_of(reply))
    except WalletError as exc:
        return exc
