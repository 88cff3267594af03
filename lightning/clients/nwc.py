"""Nostr Wallet Connect (NIP-47): requests to a wallet over Nostr relays.

https://github.com/nostr-protocol/nips/blob/master/47.md

Amounts are in millisatoshi. Every call releases the database connection before it
waits. Errors are subclasses of `lightning.exceptions.WalletError`; the class says what
is known about the outcome.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import chain
from typing import Any

from django.conf import settings

from lightning.clients import nwc_batches
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
)
from lightning.clients.nwc_requests import (
    REQUEST,
    RESPONSE,
    Client,
    PreparedRequest,
    Reply,
)
from lightning.clients.nwc_uri import NwcUri
from lightning.clients.nwc_values import read_word
from lightning.clients.pace import Pace
from lightning.exceptions import InvalidWalletReply, WalletError

__all__ = [
    "REQUEST",
    "RESPONSE",
    "TIMEOUT",
    "PreparedRequest",
    "Wallet",
    "get_infos",
    "learn_schemes",
    "load_of",
    "pay_each",
    "room_for",
]

#: Seconds to wait for a response, except for payments: those have NWC_TIMEOUT.
TIMEOUT = 15.0


class Wallet:
    """One connection to a wallet.

    `private_allowed`: its relays may have private addresses. `is_ours`: it is one of
    ours, whose relays never share anything with those of tenants. With a `pace`,
    requests beyond it are not sent: their error is WalletBusy.
    """

    def __init__(
        self,
        uri: NwcUri,
        *,
        private_allowed: bool | None = None,
        is_ours: bool = False,
        pace: Pace | None = None,
    ) -> None:
        if private_allowed is None:
            private_allowed = settings.NWC_ALLOW_PRIVATE_RELAYS
        self.uri = uri
        self._endpoints = uri.endpoints(
            private_allowed=private_allowed, is_ours=is_ours
        )
        self.client = Client(uri, self._endpoints, pace)

    def __repr__(self) -> str:
        return f"<Wallet {self.uri!r}>"

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
        replies = self.client.call(
            "lookup_invoice",
            [{"payment_hash": payment_hash} for payment_hash in payment_hashes],
            TIMEOUT if timeout is None else timeout,
        )
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
        Raises RequestNotSent if no relay can be reached. Learn the wallet's encryption
        first, by `learn_schemes`.
        """
        return self.client.prepare(
            "pay_invoice",
            {"invoice": bolt11},
            settings.NWC_TIMEOUT,
            expires_at=expires_at,
        )

    def pay_invoice(self, request: PreparedRequest, *, payment_hash: str) -> str:
        """Send a prepared payment and return the preimage, in hex.

        Never call it twice for one request. Raises WalletRefused or RequestNotSent if
        nothing was spent, any other WalletError if that is unknown.
        """
        ((_, outcome),) = chain.from_iterable(pay_each([(self, request, payment_hash)]))
        if isinstance(outcome, WalletError):
            raise outcome
        return outcome

    def on_payment_received(self, callback: Callable[[list[str]], None]) -> None:
        """Call `callback` with the payment hashes in `payment_received` notifications.

        It runs in its own thread, for the life of the process, and gets each hash once.
        Notifications are hints, not proof.
        """
        Listener(self.uri, callback).start(self._endpoints)

    def published_methods(self) -> frozenset[str]:
        """Return the methods in the wallet's info event; none without one.

        Raises RequestNotSent if no relay can be reached.
        """
        return self.client.capabilities.methods

    def _call(self, method: str, params: Mapping[str, object]) -> dict[str, Any]:
        (reply,) = self.client.call(method, [params], TIMEOUT)
        return _result_of(reply)


def room_for(
    wallets: Sequence[Wallet],
) -> AbstractContextManager[nwc_batches.Held]:
    """Keep room for a request to each of a batch of tenants' wallets.

    Entering waits, and raises TooManyConnections.
    """
    return nwc_batches.ROOM.take(load_of(wallets))


def load_of(wallets: Collection[Wallet]) -> nwc_batches.Load:
    """Return the room that a request to each of these wallets needs."""
    relays = {relay for wallet in wallets for relay in wallet.uri.relays}
    return nwc_batches.Load(relays=len(relays), requests=len(wallets))


def learn_schemes(wallets: Sequence[Wallet]) -> list[WalletError | None]:
    """Have tenants' wallets show their encryption before the only request of a payment.

    Returns RequestNotSent for a wallet if none of its relays can be reached.
    """
    return nwc_batches.learn_schemes([wallet.client for wallet in wallets])


def pay_each(
    payments: Sequence[tuple[Wallet, PreparedRequest, str]],
) -> Iterator[list[tuple[int, str | WalletError]]]:
    """Send prepared payments, with their payment hashes, to tenants' wallets at once.

    Yields, with the payment's position, the preimage or the error of `pay_invoice`, in
    groups as the replies arrive. Never call it twice for one request.
    """
    messages = [(wallet.client, request) for wallet, request, _ in payments]
    for replies in nwc_batches.send_each(messages, settings.NWC_TIMEOUT):
        yield [(i, _preimage_in(reply, payments[i][2])) for i, reply in replies]


def get_infos(wallets: Sequence[Wallet]) -> list[Info | WalletError]:
    """Return the infos of tenants' wallets, or the errors."""
    clients = [wallet.client for wallet in wallets]
    replies = nwc_batches.call_each(clients, "get_info", TIMEOUT)
    return [_info_in(reply) for reply in replies]


def _preimage_in(reply: Reply, payment_hash: str) -> str | WalletError:
    try:
        preimage = _result_of(reply).get("preimage")
        if is_preimage_of(payment_hash, preimage):
            return read_word(preimage)
    except WalletError as exc:
        return exc
    return InvalidWalletReply("The wallet's preimage does not match the payment hash.")


def _info_in(reply: Reply) -> Info | WalletError:
    try:
        return read_info(_result_of(reply))
    except WalletError as exc:
        return exc


def _result_of(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, WalletError):
        raise reply
    return reply


def _lookup_in(reply: Reply, payment_hash: str) -> Lookup | WalletError:
    try:
        return read_lookup(payment_hash, _result_of(reply))
    except WalletError as exc:
        return exc
