"""Answers about invoices, as they differ between wallets.

Where a wallet is named, its source says so; the path is in its repository on GitHub.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sandbox.wallets.behaviour.replies import ReplyBehaviour
from sandbox.wallets.ledger import Invoice

Result = dict[str, Any]
_ZERO = "00" * 32


class Times(StrEnum):
    """Notations of a time; NIP-47 wants whole seconds."""

    SECONDS = "seconds"
    #: ZEUS divides milliseconds by 1000: issue 4036 of ZeusLN/zeus.
    FLOATS = "seconds with a fraction"
    #: coinos, in `make_invoice` until 0154bb06: issue 84 of coinos/coinos-server.
    MILLISECONDS = "milliseconds"
    #: Alby's first wallet service: pull request 206 of getAlby/nostr-wallet-connect.
    TEXT = "ISO 8601 text"


class Amounts(StrEnum):
    """Notations of an amount; NIP-47 wants a number of millisatoshi."""

    NUMBER = "number"
    #: Core Lightning wrote its amounts as texts until v23.05 (pull request 5986 of
    #: ElementsProject/lightning), and wallets pass on what their node says.
    TEXT = "text"
    #: A thousand times too much: satoshi multiplied twice. Seen in no wallet.
    ABSURD = "a thousand times too much"


@dataclass(frozen=True, kw_only=True)
class LookupBehaviour(ReplyBehaviour):
    """Behaviour of `lookup_invoice`."""

    with_state: bool = True
    wrong_hash: bool = False
    times: Times = Times.SECONDS
    amounts: Amounts = Amounts.NUMBER
    #: An expired unpaid invoice has a `settled_at`, and zeros as its preimage. LNbits:
    #: `is_settled = not payment.pending` in tasks.py of lnbits/nwcprovider.
    settles_expired: bool = False
    #: An unpaid invoice has its true preimage, which the issuer knows. LNbits
    #: (`if is_settled or payment.is_in`), and `RequestParams::LookupInvoice` in
    #: src/main.rs of benthecarman/nostr-wallet-connect-lnd, which has no `state`.
    shows_preimage: bool = False
    #: A paid invoice is answered as an unpaid one. Seen in no wallet; one that has
    #: lost its database, or was restored from a backup, would do it.
    never_settled: bool = False
    #: The newest record wins, so that a failed payment of the same wallet service hides
    #: the invoice. Alby Hub: `Order("settled_at desc, created_at desc")` of
    #: `LookupTransaction` in transactions/transactions_service.go.
    newest_record: bool = False

    def write(self, result: Result, *, preimage: str, is_expired: bool) -> Result:
        """Return a true result in this wallet's notation."""
        is_unpaid = "settled_at" not in result
        if is_unpaid and is_expired and self.settles_expired:
            result = {**result, "settled_at": result["created_at"], "preimage": _ZERO}
        if is_unpaid and self.shows_preimage:
            result = {**result, "preimage": preimage}
        if not self.with_state:
            result = {name: result[name] for name in result if name != "state"}
        for name in {"created_at", "expires_at", "settled_at"} & result.keys():
            result = {**result, name: _TIMES[self.times](result[name])}
        return {**result, "amount": _AMOUNTS[self.amounts](result["amount"])}


@dataclass(frozen=True, kw_only=True)
class ListBehaviour(ReplyBehaviour):
    """Behaviour of `list_transactions`; its notation is that of look-ups.

    `by_update` sorts and selects by the time of the last change instead of the
    creation, as Alby Hub does (ListTransactions in its transactions_service.go).
    """

    by_update: bool = False

    def time_of(self, invoice: Invoice) -> int:
        """Return the time by which an invoice is listed."""
        settled_at = invoice.settled_at if self.by_update else None
        return settled_at or invoice.created_at


_TIMES: dict[Times, Callable[[int], object]] = {
    Times.SECONDS: int,
    Times.FLOATS: lambda seconds: seconds + 0.5,
    Times.MILLISECONDS: lambda seconds: seconds * 1_000,
    Times.TEXT: lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(),
}
_AMOUNTS: dict[Amounts, Callable[[int], object]] = {
    Amounts.NUMBER: int,
    Amounts.TEXT: str,
    Amounts.ABSURD: lambda msat: msat * 1_000,
}
