"""Refunds, disputes and early fraud warnings of card payments, and their events."""

import json
from collections.abc import Collection
from typing import Any

from billing.models import InvoiceCollection, Reversal, StripeEvent
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credits
from billing.services.events.process import HANDLERS, process_event
from billing.services.events.reversals import reversal_changed
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.subscriptions.sync import sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.factories import StripeEventFactory
from billing.tests.support.collection import attach, collect, collection_of
from lightning.services.invoice_status import check_invoice
from sandbox.stripe.client.testing import Sandbox
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.control import control
from tenants.models import Tenant

#: Types of the events on refunds, disputes and warnings.
REVERSAL_EVENTS = frozenset(
    type for type, handler in HANDLERS.items() if handler is reversal_changed
)


def pay_by_card(sandbox: Sandbox, tenant: Tenant, card: str = "pm_card_visa") -> str:
    """Let the tenant's only invoice be paid with a new card; returns the charge."""
    attach(sandbox, tenant, card)
    assert collect(tenant).stripe_status == "paid"
    return charge_of(sandbox, collection_of(tenant))


def charge_of(sandbox: Sandbox, collection: InvoiceCollection) -> str:
    """Return the id of the charge that paid an invoice."""
    return str(builders.intent_of(sandbox.client(), collection.pk).latest_charge)


def dispute(sandbox: Sandbox, charge: str, **fields: Any) -> str:
    """Open a dispute of a charge as its bank does; returns its id."""
    status, opened = control(sandbox, "POST", f"charges/{charge}/dispute", fields)
    assert status == 200, opened
    return str(opened["id"])


def close_dispute(sandbox: Sandbox, dispute_id: str, outcome: str) -> None:
    path, body = f"disputes/{dispute_id}/close", {"outcome": outcome}
    assert control(sandbox, "POST", path, body)[0] == 200


def refund(sandbox: Sandbox, charge: str, amount: int | None = None) -> str:
    """Refund a charge as staff do in the dashboard; returns the refund."""
    params: Any = {"charge": charge} | ({"amount": amount} if amount else {})
    return str(sandbox.client().v1.refunds.create(params).id)


def settle_refund(sandbox: Sandbox, refund_id: str, outcome: str) -> None:
    path, body = f"refunds/{refund_id}/settle", {"outcome": outcome}
    assert control(sandbox, "POST", path, body)[0] == 200


def warn_of_fraud(sandbox: Sandbox, charge: str) -> None:
    path = f"charges/{charge}/early_fraud_warning"
    assert control(sandbox, "POST", path, {})[0] == 200


def record_warning(sandbox: Sandbox, collection: InvoiceCollection, card: str) -> None:
    """Record an early fraud warning of a charge of a card, by its number."""
    method = sandbox.client().v1.payment_methods.retrieve(card)
    Reversal.objects.create(
        stripe_id="issfr_1",
        kind=Reversal.Kind.FRAUD_WARNING,
        state=Reversal.State.OPEN,
        tenant=collection.tenant,
        collection=collection,
        amount_cents=500,
        currency="usd",
        charge_id="ch_1",
        card_fingerprint=(method.card and method.card.fingerprint) or "",
        created_at=collection.created_at,
    )


def new_events(sandbox: Sandbox, types: Collection[str] = REVERSAL_EVENTS) -> list[Any]:
    """Return the events of these types that were not received yet, oldest first."""
    known = set(StripeEvent.objects.values_list("pk", flat=True))
    listed = sandbox.client().v1.events.list({"limit": 100}).data
    return [
        event
        for event in reversed(listed)
        if event.type in types and event.id not in known
    ]


def deliver(event: Any) -> StripeEvent:
    """Receive and process an event; one that was received is processed again."""
    body = json.dumps(event.to_dict(), default=str)
    if not StripeEvent.objects.filter(pk=event.id).exists():
        StripeEventFactory(id=event.id, type=event.type, body=body)
    StripeEvent.objects.filter(pk=event.id).update(status="received", processed_at=None)
    return process_event(event_id=event.id)


def deliver_all(sandbox: Sandbox, types: Collection[str] = REVERSAL_EVENTS) -> None:
    """Deliver the events that were not received yet; each must be processed."""
    for event in new_events(sandbox, types):
        deliver(event)
        assert StripeEvent.objects.get(pk=event.id).status == "processed"


def settle_down(tenant: Tenant) -> None:
    """Do what the workers do until nothing is left to do."""
    for _ in range(3):
        mark_stale(tenant_id=tenant.pk)
        sync_tenant(tenant_id=tenant.pk)
        post_credits(tenant_id=tenant.pk)
        for invoice_id in tenant.collections.values_list("pk", flat=True):
            collect_invoice(invoice_id=invoice_id)
    tenant.refresh_from_db()


def pay_on_page(collection: InvoiceCollection, wallet: Any) -> None:
    """Pay an invoice by Lightning on its page, and book the payment."""
    bolt11 = get_or_issue_bolt11(invoice_id=collection.pk)
    wallet.pay(bolt11.bolt11)
    check_invoice(invoice_id=bolt11.pk)
    collect_invoice(invoice_id=collection.pk)
