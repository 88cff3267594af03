"""Search for an invoice in a wallet's `list_transactions`.

For wallets that answer `lookup_invoice` with the payment of an invoice that they also
issued, and for hashes that they do not find.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from lightning.clients.clock import CLOCK_TOLERANCE
from lightning.clients.nwc_replies import Lookup, read_lookup
from lightning.clients.nwc_values import read_word
from lightning.exceptions import InvalidWalletReply, WalletError

#: Transactions per request: fifty of the longest exceed the 64 KiB of NIP-44.
_PAGE = 20
#: Pages per search.
_MAX_PAGES = 10

Call = Callable[[str, Mapping[str, object]], dict[str, Any]]


def find_incoming(call: Call, payment_hash: str, *, issued_at: datetime) -> Lookup:
    """Return a wallet's own invoice from its list of transactions.

    Raises WalletError if the wallet cannot list them, or does not list the invoice.
    """
    start, end = (
        int((issued_at + skew).timestamp())
        for skew in (-CLOCK_TOLERANCE, CLOCK_TOLERANCE)
    )
    # Alby Hub goes by the time of the last change, so an invoice that was paid later
    # is not in the first window.
    for window in ({"from": start, "until": end}, {"from": start}):
        for transaction in _transactions(call, window):
            is_incoming = read_word(transaction.get("type")) == "incoming"
            if (
                is_incoming
                and read_word(transaction.get("payment_hash")) == payment_hash
            ):
                return read_lookup(payment_hash, transaction)
    raise WalletError("The wallet does not list the invoice.")


def _transactions(call: Call, window: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield a window's transactions, newest first, from at most _MAX_PAGES pages."""
    offset = 0
    for _ in range(_MAX_PAGES):
        params = {"type": "incoming", "unpaid": True, "limit": _PAGE, "offset": offset}
        page = call("list_transactions", {**window, **params}).get("transactions")
        if not isinstance(page, list):
            raise InvalidWalletReply("The wallet returned no list of transactions.")
        if not page:
            return
        yield from (entry for entry in page if isinstance(entry, dict))
        # A page may be shorter than its limit: wallets have limits of their own.
        offset += len(page)
