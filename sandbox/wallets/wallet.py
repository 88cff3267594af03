"""A wallet: its keys, its connections, how it behaves, and what it was asked."""

import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol as Interface

from caravel.nostr import pubkey_of
from caravel.nostr.events import Event, sign_event
from sandbox.wallets import bolt11
from sandbox.wallets.behaviour import (
    PAYS,
    InvoiceBehaviour,
    LookupBehaviour,
    PaymentBehaviour,
    Protocol,
    ReplyBehaviour,
)
from sandbox.wallets.budgets import Renewal, Terms
from sandbox.wallets.connections import METHODS, PAY, Connection
from sandbox.wallets.database import Database
from sandbox.wallets.keys import FIRST, keys_of
from sandbox.wallets.ledger import Invoice, Ledger
from sandbox.wallets.messages import INFO, Request

#: How many requests a wallet remembers.
_MAX_REQUESTS = 10_000
NOTIFICATIONS = ("payment_received", "payment_sent")
EXPIRY = 3_600


class RelaySubscriptions(Interface):
    """Where wallets are heard; each call returns when the relays have answered."""

    def resubscribe(self) -> None:
        """Listen for the wallets that listen, and publish what changed of them."""

    def catch_up(self, wallet: "Wallet", *, heeds_expiration: bool) -> None:
        """Run the requests to a wallet that its relays stored."""


class Wallet:
    """An account of the ledger that answers NIP-47.

    Scripted by `behaviour` (pay_invoice), `issuing` (make_invoice), `lookups`
    (lookup_invoice), `others` (all else) and `protocol`.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: str,
        relays: Sequence[str],
        terms: Terms,
        protocol: Protocol,
        ledger: Ledger,
        database: Database,
        subscriptions: RelaySubscriptions,
        currency: str,
    ) -> None:
        self.name = name
        self.relays = tuple(relays)
        self.ledger = ledger
        self.currency = currency
        self.keys = keys_of(seed, name)
        self.pubkey = pubkey_of(self.keys.wallet)
        self.is_listening = True
        self.behaviour: PaymentBehaviour = PAYS
        self.invoice_behaviour = InvoiceBehaviour()
        self.lookup_behaviour = LookupBehaviour()
        self.reply_behaviour = ReplyBehaviour()
        self.unreadable: list[Event] = []
        self._received: deque[Request] = deque(maxlen=_MAX_REQUESTS)
        self._seed = seed
        self._protocol = protocol
        self._subscriptions = subscriptions
        self._database = database
        self._info: Event | None = None
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._load()
        if FIRST not in self._connections:
            self._open(FIRST, terms)

    def __repr__(self) -> str:
        return f"<Wallet {self.name} {self.pubkey}>"

    @property
    def protocol(self) -> Protocol:
        """How it takes NIP-47; set it to change that."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._subscriptions.resubscribe()

    @property
    def connection(self) -> Connection:
        """The first connection."""
        return self._connections[FIRST]

    @property
    def connections(self) -> list[Connection]:
        """The connections that were not deleted."""
        return [
            one for one in list(self._connections.values()) if not one.terms.deleted
        ]

    @property
    def url(self) -> str:
        """The URL of the first connection."""
        return self.connection.url

    @property
    def balance_msat(self) -> int:
        """What it has."""
        return self.ledger.balance(self.name)

    def connect(
        self, label: str | None = None, *, terms: Terms | None = None
    ) -> Connection:
        """Return the connection of a label, made if need be; without one a new one.

        Terms that are given replace those it had.
        """
        with self._lock:
            label = label or str(len(self._connections) + 1)
            new = label not in self._connections
            if new:
                self._open(label, terms or Terms())
        if new:
            self._subscriptions.resubscribe()
        elif terms is not None:
            self._connections[label].terms = terms
        return self._connections[label]

    def client(self, pubkey: str) -> Connection | None:
        """Return the connection of a client's key, unless it was deleted."""
        found = [one for one in self.connections if one.pubkey == pubkey]
        return found[0] if found else None

    def record_request(self, request: Request) -> None:
        """Add to what it was asked."""
        self._received.append(request)

    def requests(self, method: str | None = None) -> list[Request]:
        """Return what it was asked, oldest first; of one method, or all."""
        return [one for one in list(self._received) if method in (None, one.method)]

    def go_offline(self) -> None:
        """Hear nothing any more, and answer nothing."""
        self.is_listening = False
        self._subscriptions.resubscribe()

    def go_online(self, *, heeds_expiration: bool | None = None) -> None:
        """Listen again, and run the requests that the relays stored meanwhile.

        Expired ones are run as `protocol` says, unless it is said here.
        """
        self.is_listening = True
        self._subscriptions.resubscribe()
        if heeds_expiration is None:
            heeds_expiration = self.protocol.heeds_expiration
        self._subscriptions.catch_up(self, heeds_expiration=heeds_expiration)

    def pay(self, bolt11: str) -> Invoice:
        """Pay as a person with the wallet in hand does. Raises NotPaid."""
        return self.ledger.pay(self.name, bolt11)

    def issue(
        self, amount_msat: int, *, expiry: int = EXPIRY, description: str = ""
    ) -> Invoice:
        """Return a new invoice; expiry is in seconds."""
        preimage, now = bolt11.make_preimage(), int(time.time())
        text = bolt11.make_bolt11(
            node_key=self.keys.node,
            payment_hash=preimage.hash,
            amount_msat=amount_msat,
            expiry=expiry,
            description=description,
            created_at=now,
            currency=self.currency,
        )
        invoice = Invoice(
            payment_hash=preimage.hash,
            bolt11=text,
            owner=self.name,
            amount_msat=amount_msat,
            description=description,
            created_at=now,
            expires_at=now + expiry,
            preimage=preimage.secret,
        )
        self.ledger.issue(invoice)
        return invoice

    def info(self) -> Event:
        """Return the info event (kind 13194), the same one while nothing changes."""
        may_pay = any(PAY in one.methods for one in self.connections)
        words = ((PAY,) if may_pay else ()) + METHODS
        tags = [("encryption", " ".join(self.protocol.encryption))]
        if self.protocol.notifies:
            words += ("notifications",)
            tags.append(("notifications", " ".join(NOTIFICATIONS)))
        content, old = " ".join(words), self._info
        if old is not None and (old.content, old.tags) == (content, tuple(tags)):
            return old
        # Of two replaceable events of one second a relay may on_change the older one.
        now = max(int(time.time()), old.created_at + 1 if old else 0)
        self._info = sign_event(
            self.keys.wallet, kind=INFO, content=content, tags=tags, created_at=now
        )
        return self._info

    def _load(self) -> None:
        query = "SELECT label, terms FROM connections WHERE wallet = ? ORDER BY rowid"
        for label, text in self._database.rows(query, self.name):
            terms = json.loads(text)
            renewal = Renewal(terms.pop("renewal"))
            self._add(label, Terms(**terms, renewal=renewal))

    def _open(self, label: str, terms: Terms) -> None:
        self._add(label, terms)
        self._store(label, terms)

    def _add(self, label: str, terms: Terms) -> None:
        keys = keys_of(self._seed, self.name, label)
        self._connections[label] = Connection(
            label, keys=keys, relays=self.relays, terms=terms, on_change=self._on_change
        )

    def _on_change(self, label: str, terms: Terms) -> None:
        self._store(label, terms)
        self._subscriptions.resubscribe()

    def _store(self, label: str, terms: Terms) -> None:
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO connections VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET terms = excluded.terms",
                (self.name, label, json.dumps(asdict(terms))),
            )
