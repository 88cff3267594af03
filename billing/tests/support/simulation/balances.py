"""Invoices, payments and subscriptions at Stripe and in our own wallet."""

from billing.services.subscriptions.diff import LIVE
from billing.tests.support.simulation.system import System
from lightning.models import LightningInvoice
from sandbox.stripe.store.records import Record


def tenant_invoices(system: System) -> list[Record]:
    """Return all Stripe invoices of tenants' customers.

    Whose an invoice is does not depend on metadata that staff can edit.
    """
    store = system.stripe.app.store
    return [
        invoice
        for invoice in store.scan("invoice")
        if system.owner_of(invoice["customer"])
    ]


def captured_by_card(system: System, invoice: str) -> int:
    """Return the amount paid by card, also on Stripe's page, in cents."""
    intents = system.stripe.app.store.scan("payment_intent")
    return sum(
        intent["amount_received"] for intent in intents if intent["_invoice"] == invoice
    )


def captured_by_lightning(system: System, invoice: str) -> int:
    """Return the amount that our own wallet received for an invoice, in cents."""
    settled = settled_hashes(system)
    issued = LightningInvoice.objects.of(invoice)
    return sum(row.amount_cents for row in issued if row.payment_hash in settled)


def live_subscriptions(system: System) -> list[Record]:
    """Return tenants' subscriptions that are billed."""
    return [
        record
        for record in system.stripe.app.store.scan("subscription")
        if record["status"] in LIVE and system.owner_of(record["customer"])
    ]


def settled_hashes(system: System) -> set[str]:
    """Return the payment hashes of payments to our own wallet in this system."""
    issued = system.wallets.ledger.issued_by("platform")[system.first_issued :]
    return {
        invoice.payment_hash for invoice in issued if invoice.settled_at is not None
    }
