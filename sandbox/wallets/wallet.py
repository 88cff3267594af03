"""A wallet: its keys, connections, behaviour and received requests."""

import json
import threading
import time
from collections import deque
from dataclasses import asdict, replace
from typing import Protocol as Interface

from sandbox.common.nostr import Event, pubkey_of, sign_event
from sandbox.wallets import bolt11
from sandbox.wallets.behaviour import (
    PAYS,
    InvoiceBehaviour,
    ListBehaviour,
    LookupBehaviour,
    PaymentBehaviour,
    Protocol,
    ReplyBehaviour,
)
from sandbox.wallets.connections import METHODS, PAY, Connection, Renewal, Terms
from sandbox.wallets.database import Database
from sandbox.wallets.keys import FIRST, keys_of
from sandbox.wallets.ledger import Invoice, Ledger
from sandbox.wallets.messages import INFO, Request

#: Only the newest requests are recorded.
_MAX_REQUESTS = 10_000
NOTIFICATIONS = ("payment_received", "payment_sent")
EXPIRY = 3_600


class RelaySubscriptions(Interface):
    """The wallets' subscriptions at the relay, see `Network`."""

    def resubscribe(self) -> None: ...
    def catch_up(self, wallet: "Wallet", heeds_expiration: bool) -> None: ...


class Wallet:
    """An account of the ledger with a NIP-47 wallet service.

    Scripted by `behaviour` (pay_invoice), `invoice_behaviour` (make_invoice),
    `lookup_behaviour` (lookup_invoice), `list_behaviour` (list_transactions),
    `reply_behaviour` (other methods) and `protocol`.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: str,
        relay: str,
        terms: Terms,
        protocol: Protocol,
        ledger: Ledger,
        database: Database,
        subscriptions: RelaySubscriptions,
    ) -> None:
        self.name = name
        self.relay = relay
        self.ledger = ledger
        self.keys = keys_of(seed, name)
        self.pubkey = pubkey_of(self.keys.wallet)
        self.is_listening = True
        self.behaviour: PaymentBehaviour = PAYS
        self.invoice_behaviour = InvoiceBehaviour()
        self.lookup_behaviour = LookupBehaviour()
        self.list_behaviour = ListBehaviour()
        self.reply_behaviour = ReplyBehaviour()
        self.unreadable: list[Event] = []
        self.received: deque[Request] = deque(maxlen=_MAX_REQUESTS)
        #: The number of requests beyond the protocol's limit; they are not in
        #: `received`.
        self.rate_limited = 0
        self._seed = seed
        self._protocol = protocol
        self._subscriptions = subscriptions
        self._database = database
        self._info: Event | None = None
        self._is_info_old = False
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._load()
        if FIRST not in self._connections:
            self._open(FIRST, terms)

    def __repr__(self) -> str:
        return f"<Wallet {self.name} {self.pubkey}>"

    @property
    def protocol(self) -> Protocol:
        """Its NIP-47 options; can be set."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Protocol) -> None:
        # The relay may have lost the info event meanwhile.
        self._is_info_old |= not self._protocol.announces
        self._protocol = protocol
        self._subscriptions.resubscribe()

    def now(self) -> int:
        """Return the Unix time by the wallet's own clock."""
        return int(time.time() + self.protocol.clock_skew)

    @property
    def connection(self) -> Connection:
        """The first connection."""
        return self._connections[FIRST]

    @property
    def connections(self) -> list[Connection]:
        """The connections that are not deleted."""
        connections = list(self._connections.values())
        return [item for item in connections if not item.terms.deleted]

    @property
    def url(self) -> str:
        """The URL of the first connection."""
        return self.connection.url

    @property
    def balance_msat(self) -> int:
        return self.ledger.balance(self.name)

    def connect(
        self, label: str | None = None, *, terms: Terms | None = None
    ) -> Connection:
        """Return the connection with a label, created if needed; default: a new one.

        Terms, if given, replace the existing ones.
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
        """Return the connection of a client's key, unless it is deleted."""
        return next((item for item in self.connections if item.pubkey == pubkey), None)

    def requests(self, method: str | None = None) -> list[Request]:
        """Return the received requests, oldest first, optionally of one method."""
        received = list(self.received)
        return [item for item in received if method in (None, item.method)]

    def go_offline(self) -> None:
        """Stop receiving requests and sending replies."""
        self.is_listening = False
        self._subscriptions.resubscribe()

    def go_online(self, *, heeds_expiration: bool | None = None) -> None:
        """Receive requests again, and run those that the relay has stored.

        `heeds_expiration` overrides the protocol's option for the stored requests.
        """
        self.is_listening = True
        self._subscriptions.resubscribe()
        if heeds_expiration is None:
            heeds_expiration = self.protocol.heeds_expiration
        self._subscriptions.catch_up(self, heeds_expiration)

    def pay(self, bolt11: str) -> Invoice:
        """Pay by hand, without NIP-47. Raises NotPaid."""
        return self.ledger.pay(self.name, bolt11)

    def issue(
        self, amount_msat: int, *, expiry: int = EXPIRY, description: str = ""
    ) -> Invoice:
        """Return a new invoice; expiry is in seconds."""
        preimage, now = bolt11.make_preimage(), self.now()
        text = bolt11.make_bolt11(
            node_key=self.keys.node,
            payment_hash=preimage.hash,
            amount_msat=amount_msat,
            expiry=expiry,
            description=description,
            created_at=now,
            currency=self.protocol.network.currency,
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
        """Return the info event (kind 13194), unchanged while nothing changes."""
        may_pay = any(PAY in connection.methods for connection in self.connections)
        words = ((PAY,) if may_pay else ()) + METHODS
        tags = [("encryption", " ".join(self.protocol.encryption))]
        if self.protocol.notifies:
            words += ("notifications",)
            tags.append(("notifications", " ".join(NOTIFICATIONS)))
        content, old = " ".join(words), self._info
        is_same = old is not None and (old.content, old.tags) == (content, tuple(tags))
        if old is not None and is_same and not self._is_info_old:
            return old
        self._is_info_old = False
        # NIP-01: of two replaceable events in one second the lower id wins.
        now = max(self.now(), old.created_at + 1 if old else 0)
        self._info = sign_event(
            self.keys.wallet, kind=INFO, content=content, tags=tags, created_at=now
        )
        return self._info

    def _load(self) -> None:
        query = "SELECT label, terms FROM connections WHERE wallet = ? ORDER BY rowid"
        for label, text in self._database.rows(query, self.name):
            terms = Terms(**json.loads(text))
            renewal, denied = Renewal(terms.renewal), tuple(terms.denied)
            self._add(label, replace(terms, renewal=renewal, denied=denied))

    def _open(self, label: str, terms: Terms) -> None:
        self._add(label, terms)
        self._store(label, terms)

    def _add(self, label: str, terms: Terms) -> None:
        keys = keys_of(self._seed, self.name, label)
        self._connections[label] = Connection(
            label, keys=keys, relay=self.relay, terms=terms, on_change=self._on_change
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
