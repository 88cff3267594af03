"""The state as JSON, without preimages."""

import time
from typing import Any

from sandbox.common.control import Refused
from sandbox.lightning.behaviours import describe, describe_differences
from sandbox.lightning.stack import Lightning
from sandbox.nostr import SandboxRelay
from sandbox.prices.feed import SOURCES, PriceFeed
from sandbox.wallets import Wallet
from sandbox.wallets.ledger import Invoice

#: The maximum number of invoices, and of a wallet's requests, in an answer.
NEWEST = 100
#: The relay's settings that a command can change.
RELAY_SETTINGS = (
    "honours_expiration",
    "requires_auth",
    "requires_auth_to_read",
    "late_challenge",
    "acknowledges_auth",
    "serves_own_events",
    "ignores_broad_filters",
    "refuses_broad_filters",
)


def serialize_wallet(wallet: Wallet) -> dict[str, Any]:
    """Return a wallet; `url` is its NWC URL."""
    terms = wallet.connection.terms
    budget = None
    if terms.budget_msat is not None:
        spent = wallet.ledger.spent(wallet.name, wallet.connection.spender)
        budget = {
            "sats": terms.budget_msat // 1_000,
            "spent_msat": spent,
            "renewal": str(terms.renewal),
        }
    return {
        **_select(wallet, "name", "pubkey", "url", "balance_msat"),
        "behaviour": describe(wallet.behaviour),
        "differences": differences(wallet),
        "online": wallet.is_listening,
        "budget": budget,
    }


def differences(wallet: Wallet) -> list[str]:
    """Return how a wallet differs from NIP-47, apart from its payments."""
    found = describe_differences(wallet.protocol, wallet.lookup_behaviour)
    denied = wallet.connection.terms.denied
    return [*found, *(f"{method} is not allowed" for method in denied)]


def list_wallets(lightning: Lightning) -> dict[str, Any]:
    """Return all wallets."""
    return {"data": [serialize_wallet(wallet) for wallet in lightning.wallets]}


def get_wallet(lightning: Lightning, name: str) -> dict[str, Any]:
    """Return a wallet with its last requests, newest first. Raises Refused."""
    wallet = find_wallet(lightning, name)
    requests = [
        _select(request, "id", "method", "client", "received_at")
        for request in reversed(wallet.requests()[-NEWEST:])
    ]
    return {**serialize_wallet(wallet), "requests": requests}


def find_wallet(lightning: Lightning, name: str) -> Wallet:
    """Return the wallet with this name. Raises Refused."""
    try:
        return lightning.wallets[name]
    except KeyError:
        raise Refused(404, f"no wallet {name}") from None


def list_invoices(lightning: Lightning) -> dict[str, Any]:
    """Return the newest invoices."""
    newest = lightning.wallets.ledger.latest(NEWEST)
    return {"data": [serialize_invoice(invoice) for invoice in newest]}


def serialize_invoice(invoice: Invoice) -> dict[str, Any]:
    """Return an invoice of the ledger, paid or not."""
    values = ("payment_hash", "bolt11", "payer", "amount_msat", "description")
    times = ("created_at", "expires_at", "settled_at")
    state = {"state": invoice_state(invoice), "payee": invoice.owner}
    return _select(invoice, *values, *times) | state


def invoice_state(invoice: Invoice) -> str:
    """Return `paid`, `open` or `expired`; an expired one is payable for a while."""
    if invoice.settled_at is not None:
        return "paid"
    return "open" if time.time() < invoice.expires_at else "expired"


def serialize_prices(feed: PriceFeed) -> dict[str, Any]:
    """Return the prices of one bitcoin by currency and source, and the faults."""
    return {
        "urls": feed.urls,
        "prices": {
            currency: {
                source: _text(feed.price(source, currency)) for source in SOURCES
            }
            for currency in feed.currencies
        },
        "faults": {source: fault.kind for source, fault in feed.faults.items()},
    }


def serialize_relay(relay: SandboxRelay) -> dict[str, Any]:
    """Return the relay's state."""
    return {
        **_select(relay, "url", "online", "connections", "subscriptions", "held"),
        **_select(relay.settings, *RELAY_SETTINGS),
        "stored": len(relay.stored()),
        "faults": [fault.to_dict() for fault in relay.faults()],
    }


def serialize_state(lightning: Lightning) -> dict[str, Any]:
    """Return a summary of everything."""
    return {
        "wallets": len(list(lightning.wallets)),
        "total_msat": lightning.wallets.ledger.total(),
        "waiting": lightning.wallets.schedule.waiting,
        "failures": len(lightning.wallets.failures),
        "relay": serialize_relay(lightning.relay),
        "price_faults": len(lightning.prices.faults),
    }


def _select(item: object, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}


def _text(price: object) -> str | None:
    return None if price is None else f"{price:f}"
