"""Connections: the clients of a wallet, each with a URL, terms and a budget."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from sandbox.common.nostr import pubkey_of
from sandbox.wallets.keys import Keys, connection_url
from sandbox.wallets.ledger import Spender

PAY = "pay_invoice"
METHODS = (
    "get_info",
    "get_balance",
    "get_budget",
    "make_invoice",
    "lookup_invoice",
    "list_transactions",
)


class Renewal(StrEnum):
    """The renewal period of a budget, named as in `get_budget`; in UTC."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms of a connection; `expires_at` is a Unix time."""

    read_only: bool = False
    #: Methods that it may not call. LNbits grants `get_info` and the list of
    #: transactions apart from payments (permission.py of lnbits/nwcprovider).
    denied: tuple[str, ...] = ()
    expires_at: int | None = None
    budget_msat: int | None = None
    renewal: Renewal = Renewal.NEVER
    deleted: bool = False

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and time.time() >= self.expires_at


class Period(NamedTuple):
    """The current period of a budget in Unix times; `end` is the next start."""

    start: int
    end: int | None


def period_of(renewal: Renewal) -> Period:
    """Return the current period of a budget."""
    if renewal is Renewal.NEVER:
        return Period(0, None)
    today = datetime.fromtimestamp(time.time(), UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    january = first.replace(month=1)
    start, end = {
        Renewal.DAILY: (today, today + timedelta(days=1)),
        Renewal.WEEKLY: (monday, monday + timedelta(days=7)),
        Renewal.MONTHLY: (first, (first + timedelta(days=31)).replace(day=1)),
        Renewal.YEARLY: (january, january.replace(year=january.year + 1)),
    }[renewal]
    return Period(int(start.timestamp()), int(end.timestamp()))


class Connection:
    """A client of a wallet; `url` contains its secret.

    `on_change` is called with the label and the new terms.
    """

    def __init__(
        self,
        label: str,
        *,
        keys: Keys,
        relay: str,
        terms: Terms,
        on_change: Callable[[str, Terms], None],
    ) -> None:
        self.label = label
        self.pubkey = pubkey_of(keys.client)
        self.url = connection_url(keys, relay)
        self._terms = terms
        self._on_change = on_change

    def __repr__(self) -> str:
        return f"<Connection {self.label} {self.pubkey}>"

    @property
    def terms(self) -> Terms:
        """Its terms; can be set."""
        return self._terms

    @terms.setter
    def terms(self, terms: Terms) -> None:
        self._terms = terms
        self._on_change(self.label, terms)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that its client may call."""
        methods = METHODS if self.terms.read_only else (PAY, *METHODS)
        return tuple(word for word in methods if word not in self.terms.denied)

    @property
    def spender(self) -> Spender:
        """Its client and budget in the current period, for the ledger."""
        since = period_of(self.terms.renewal).start
        return Spender(self.pubkey, self.terms.budget_msat, since)

    def delete(self) -> None:
        """Delete the connection; its client becomes unknown."""
        self.terms = replace(self.terms, deleted=True)

    def expire(self) -> None:
        """Let the connection expire now."""
        self.terms = replace(self.terms, expires_at=int(time.time()))

    def limit(self, budget_msat: int | None, renewal: Renewal = Renewal.NEVER) -> None:
        """Set the budget in msat, or remove it."""
        self.terms = replace(self.terms, budget_msat=budget_msat, renewal=renewal)

    def deny(self, methods: Sequence[str]) -> None:
        """Forbid these methods, and no others."""
        self.terms = replace(self.terms, denied=tuple(methods))
