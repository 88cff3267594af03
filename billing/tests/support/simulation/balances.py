"""What there is in a world, at Stripe and at our wallet, and whose it is."""

from billing.services.subscriptions.diff import LIVE
from billing.tests.support.simulation.system import World
from lightning.models import LightningInvoice
from sandbox.stripe.store import Record


def our_invoices(world: World) -> list[Record]:
    """Return all invoices at Stripe of subscriptions that name a tenant."""
    store = world.stripe.app.store
    return [one for one in store.scan("invoice") if pubkey_of(one)]


def captured_by_card(world: World, invoice: str) -> int:
    """Return what cards paid for an invoice, whoever charged them, in cents."""
    intents = world.stripe.app.store.scan("payment_intent")
    return sum(one["amount_received"] for one in intents if one["_invoice"] == invoice)


def captured_by_lightning(world: World, invoice: str) -> int:
    """Return what our wallet was paid for an invoice, in cents."""
    settled = settled_hashes(world)
    issued = LightningInvoice.objects.of(invoice)
    return sum(one.amount_cents for one in issued if one.payment_hash in settled)


def live_subscriptions(world: World) -> list[Record]:
    """Return the subscriptions of ours that bill."""
    return [
        one
        for one in world.stripe.app.store.scan("subscription")
        if one["status"] in LIVE and "tenant_pubkey" in one["metadata"]
    ]


def settled_hashes(world: World) -> set[str]:
    """Return what our wallet was paid for in this world."""
    issued = world.wallets.ledger.issued_by("platform")[world.first_issued :]
    return {one.payment_hash for one in issued if one.settled_at is not None}


def pubkey_of(invoice: Record) -> str:
    """Return the tenant that an invoice at Stripe is of, "" if it is none of ours."""
    parent = invoice["parent"] or {}
    details = parent.get("subscription_details") or {}
    return str((details.get("metadata") or {}).get("tenant_pubkey", ""))
