"""Nostr Wallet Connect (NIP-47): requests to a wallet over Nostr relays.

https://github.com/nostr-protocol/nips/blob/master/47.md

Amounts are in millisatoshi. Every call releases the database connection before it
waits. Errors are subclasses of `lightning.exceptions.WalletError`; the class says what
is known about the outcome.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from caravel.core.db.transactions import release_connection
from caravel.core.exceptions import CaravelError
from caravel.nostr.encryption import Scheme, encrypt
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays.dial import RelayUnreachable
from caravel.nostr.relays.pool import get_pool
from lightning.clients.clock import CLOCK_TOLERANCE
from lightning.clients.nwc_content import decrypt_content
from lightning.clients.nwc_info import scheme_of
from lightning.clients.nwc_listing import find_incoming
from lightning.clients.nwc_notifications import Listener
from lightning.clients.nwc_replies import (
    Budget,
    Info,
    Issued,
    Lookup,
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

REQUEST, RESPONSE = 23194, 23195
#: Seconds to wait for a response, except for payments: those have NWC_TIMEOUT.
TIMEOUT = 15.0


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

    def find_incoming(self, payment_hash: str, *, issued_at: datetime) -> Lookup:
        """Find one of the wallet's own invoices in its list of transactions.

        Raises WalletError if the wallet cannot list them, or does not list the invoice.
        """
        return find_incoming(self._call, payment_hash, issued_at=issued_at)

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

        It runs in its own thread, for the life of the process, and gets each hash once.
        Notifications are hints, not proof.
        """
        Listener(self.uri, callback).start(self._endpoints)

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
        scheme = scheme_of(self.uri, self._endpoints)
        body = json.dumps({"method": method, "params": params})
        end = expires_at.timestamp() if expires_at else time.time() + TIMEOUT
        # Whole seconds, rounded up: the request must not expire early by any clock.
        until = math.ceil(end + CLOCK_TOLERANCE.total_seconds())
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
            return read_reply(request.method, decrypt_content(self.uri, answer))
        except WalletError as exc:
            return exc


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
