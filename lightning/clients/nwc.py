"""Nostr Wallet Connect (NIP-47): asking a wallet over Nostr relays.

https://github.com/nostr-protocol/nips/blob/master/47.md

Amounts are in millisatoshi. Every call gives the database connection back before it
waits. What it raises is a `lightning.exceptions.WalletError`: the class tells what is
known of the outcome.
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
#: Seconds to wait for what wallets answer from memory; payments have NWC_TIMEOUT.
QUICK = 15.0
_INFO_TIMEOUT = 5.0
#: Seconds that we believe what a wallet said of its encryption.
_INFO_KEPT, _NO_INFO_KEPT = 600.0, 30.0
#: Hints: how many are told together, how many remembered, seconds from one to the next.
_HINTS_TOGETHER, _HINTS_KEPT, _HINTS_PAUSE = 100, 1_000, 0.5


@dataclass(frozen=True)
class PreparedRequest:
    """A request that is signed and encrypted: its id is known before it is sent."""

    method: str
    event: Event

    @property
    def id(self) -> str:
        return self.event.id


class Wallet:
    """One connection to a wallet.

    `private_allowed`: its relays may be on private addresses, as our own may.
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
        """Return what the wallet is and can do."""
        return read_info(self._call("get_info", {}))

    def get_balance(self) -> int:
        """Return the balance in millisatoshi; some wallets tell the budget instead."""
        return read_amount(self._call("get_balance", {}).get("balance"))

    def get_budget(self) -> Budget | None:
        """Return the connection's budget, None if it has none."""
        return read_budget(self._call("get_budget", {}))

    def make_invoice(
        self, *, amount_msat: int, description: str, expiry: int
    ) -> Issued:
        """Have the wallet issue an invoice that expires in so many seconds.

        What it returns is the wallet's word: compare it with what was asked.
        """
        params = {"amount": amount_msat, "description": description, "expiry": expiry}
        return read_issued(self._call("make_invoice", params))

    def lookup_invoices(
        self, payment_hashes: Sequence[str], *, timeout: float | None = None
    ) -> dict[str, Lookup | WalletError]:
        """Ask about several of the wallet's own invoices at once.

        Returns, by payment hash, the answer or why there is none; `timeout` is in
        seconds, QUICK without. Raises RequestNotSent when the wallet's relays cannot be
        reached.
        """
        requests = [
            self._prepare("lookup_invoice", {"payment_hash": payment_hash})
            for payment_hash in payment_hashes
        ]
        replies = self._exchange(requests, QUICK if timeout is None else timeout)
        return {
            payment_hash: _lookup_in(reply, payment_hash)
            for payment_hash, reply in zip(payment_hashes, replies, strict=True)
        }

    def lookup_invoice(self, payment_hash: str) -> Lookup:
        """Ask about one invoice of the wallet's own."""
        found = self.lookup_invoices([payment_hash])[payment_hash]
        if isinstance(found, WalletError):
            raise found
        return found

    def prepare_payment(self, *, bolt11: str, expires_at: datetime) -> PreparedRequest:
        """Make the request to pay an invoice; it is not sent yet.

        A wallet that gets it after `expires_at` should ignore it (NIP-40); some do not.
        Raises RequestNotSent when the wallet's relays cannot be reached.
        """
        params = {"invoice": bolt11}
        return self._prepare("pay_invoice", params, expires_at=expires_at)

    def pay_invoice(self, request: PreparedRequest, *, payment_hash: str) -> str:
        """Send a prepared payment and return the preimage, in hex.

        Never call it twice for one request. Raises WalletRefused or RequestNotSent when
        nothing was spent, any other WalletError when that is not known.
        """
        (reply,) = self._exchange([request], settings.NWC_TIMEOUT)
        preimage = _result_of(reply).get("preimage")
        if not is_preimage_of(payment_hash, preimage):
            raise InvalidWalletReply("The wallet's proof of payment proves nothing.")
        return str(preimage)

    def on_payment_received(self, then: Callable[[list[str]], None]) -> None:
        """Call `then` with the payment hashes of what the wallet says came in.

        It runs in a thread of its own, once for each hash, though most wallets tell in
        both encryptions and relays tell again after a lost connection. Many that come
        at once are told together. They are hints, not proof.
        """
        events: Queue[Event] = Queue(_HINTS_KEPT)
        threading.Thread(
            target=self._pass_on, args=(events, then), name="hints", daemon=True
        ).start()
        authors = [self.uri.pubkey]
        since = int(time.time()) - 60
        filters = [{"kinds": [*NOTIFICATIONS], "authors": authors, "since": since}]
        get_pool().listen(self._endpoints, filters, lambda e: self._keep(e, events))

    # --- the protocol

    def _call(self, method: str, params: Mapping[str, object]) -> dict[str, Any]:
        (reply,) = self._exchange([self._prepare(method, params)], QUICK)
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
        # Whole seconds, rounded up: it must not have expired before its time.
        end = expires_at.timestamp() if expires_at else time.time() + QUICK
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
        """Send requests and return for each its result, or why there is none."""
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

    def _keep(self, event: Event, events: Queue[Event]) -> None:
        """Put an event with those that wait, as far as there is room.

        A relay may send anything, and much of it; what is lost the watch finds.
        """
        if event.pubkey == self.uri.pubkey and event.kind in NOTIFICATIONS:
            with suppress(Full):
                events.put_nowait(event)

    def _pass_on(self, events: Queue[Event], then: Callable[[list[str]], None]) -> None:
        told: deque[str] = deque(maxlen=_HINTS_KEPT)
        while True:
            received = [self._received_in(event) for event in _waiting(events)]
            new = [one for one in dict.fromkeys(received) if one and one not in told]
            if not new:
                continue
            try:
                then(new)
            except Exception:  # whatever it is, the next hints may fare better
                logger.exception("hints_lost", payment_hashes=new)
            told.extend(new)
            time.sleep(_HINTS_PAUSE)  # what comes meanwhile goes together

    def _received_in(self, event: Event) -> str | None:
        """Return the payment hash of a notification that something was received."""
        try:
            content = self._decrypt(event)
        except InvalidWalletReply:
            return None  # for another connection of the wallet
        found = content.get("notification")
        payment_hash = found.get("payment_hash") if isinstance(found, dict) else None
        is_received = content.get("notification_type") == "payment_received"
        return str(payment_hash) if is_received and is_hash(payment_hash) else None

    def _scheme(self) -> Scheme:
        """Return how to write to this wallet: NIP-44 if its info event offers it."""
        key = (self.uri.pubkey, self.uri.relays)
        kept = _schemes.get(key)
        if kept is None or time.monotonic() > kept[1]:
            kept = self._ask_for_scheme()
            if len(_schemes) > 10_000:
                _schemes.clear()
            _schemes[key] = kept
        return kept[0]

    def _ask_for_scheme(self) -> tuple[Scheme, float]:
        """Return the scheme, and until when to believe it."""
        release_connection()
        filters = [{"kinds": [INFO], "authors": [self.uri.pubkey], "limit": 1}]
        try:
            stored = get_pool().fetch(self._endpoints, filters, timeout=_INFO_TIMEOUT)
        except RelayUnreachable as exc:
            raise RequestNotSent(exc.message) from exc
        if not stored.answered and not stored.events:
            raise RequestNotSent("The wallet's relays do not answer.")
        kept = _INFO_KEPT if stored.events else _NO_INFO_KEPT
        return _offered(stored, self.uri.pubkey), time.monotonic() + kept


_schemes: dict[tuple[str, tuple[str, ...]], tuple[Scheme, float]] = {}


def clear_scheme_cache() -> None:
    """Forget what wallets said of their encryption."""
    _schemes.clear()


def _waiting(events: Queue[Event]) -> list[Event]:
    """Return the events that wait, or else the next one."""
    found = [events.get()]
    while len(found) < _HINTS_TOGETHER and not events.empty():
        found.append(events.get())
    return found


def _offered(stored: FetchResult, pubkey: str) -> Scheme:
    infos = [e for e in stored.events if e.kind == INFO and e.pubkey == pubkey]
    newest = max(infos, key=lambda event: event.created_at, default=None)
    offered = " ".join(newest.values("encryption")) if newest else ""
    # Some separate with commas.
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
