"""Collection of a tenant's only invoice, and payments from elsewhere meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection.collect import collect_invoice
from lightning.models import NwcPayment
from lightning.services.payments import run_payment
from sandbox.stripe.client.testing import Sandbox
from tenants.models import Tenant


def collection_of(tenant: Tenant) -> InvoiceCollection:
    return InvoiceCollection.objects.get(tenant=tenant)


def collect(tenant: Tenant) -> InvoiceCollection:
    collect_invoice(invoice_id=collection_of(tenant).pk)
    return collection_of(tenant)


def attach(
    sandbox: Sandbox,
    tenant: Tenant,
    card: str = "pm_card_visa",
    outcome: str = "succeed",
) -> str:
    """Attach a card whose charges have this outcome; returns its id."""
    api, customer = sandbox.client().v1, tenant.stripe_customer_id
    assert customer
    api.customers.update(customer, {"metadata": {"sandbox_outcome": outcome}})
    return str(api.payment_methods.attach(card, {"customer": customer}).id)


def pay_by_wallet() -> NwcPayment:
    """Run the only pending attempt, as a worker does."""
    return run_payment(payment_id=NwcPayment.objects.pending().get().pk)


def card_codes() -> list[str]:
    """Return the error code of each card attempt, "" for a paid one, oldest first."""
    attempts = CardAttempt.objects.order_by("pk")
    return list(attempts.values_list("code", flat=True))


def stripe_invoice(sandbox: Sandbox, tenant: Tenant) -> Any:
    """Return the tenant's only invoice, as Stripe has it."""
    return sandbox.client().v1.invoices.retrieve(collection_of(tenant).pk)


def pay_at_stripe(sandbox: Sandbox, tenant: Tenant) -> None:
    """Pay on Stripe's hosted invoice page."""
    url = f"{sandbox.url}/_sandbox/invoices/{collection_of(tenant).pk}/pay"
    requests.post(url, json={"card": "pm_card_visa"}, timeout=60).raise_for_status()


def pay_in_part(sandbox: Sandbox, tenant: Tenant, cents: int) -> None:
    """Pay a part by card: https://docs.stripe.com/invoicing/partial-payments.

    The sandbox has no call for it.
    """
    invoice_id = collection_of(tenant).pk

    def work(context: Any) -> None:
        with context.update("invoice", invoice_id) as draft:
            draft["amount_paid"] += cents
            draft["amount_remaining"] -= cents
        whole = next(context.store.scan("invoice_payment"))
        intent = context.get("payment_intent", whole["payment"]["payment_intent"])
        paid = {**intent, "id": "pi_part", "amount": cents, "status": "succeeded"}
        context.insert({**paid, "amount_received": cents})
        part = {**whole, "id": "inpay_part", "amount_paid": cents, "status": "paid"}
        part["payment"] = {**part["payment"], "payment_intent": "pi_part"}
        part["is_default"] = False
        # The sandbox takes the first that it finds for the default one.
        created = whole["created"] - 1
        context.insert({**part, "amount_requested": cents, "created": created})

    sandbox.app.transact(work)


def run_before(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, work: Callable[[], object]
) -> None:
    """Run something once, just before a function does its work."""
    real = getattr(owner, name)

    def work_first(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        work()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, work_first)
