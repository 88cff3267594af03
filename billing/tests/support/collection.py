"""Collection of a tenant's only invoice, and payments from elsewhere meanwhile."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests

from billing.models import CardAttempt, InvoiceCollection, StripeEvent
from billing.services.collection.collect import collect_invoice
from billing.services.events.process import process_event
from billing.tests.factories import StripeEventFactory
from lightning.models import NwcPayment
from lightning.tests.support.payments import run_payment
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


def pay_at_stripe(
    sandbox: Sandbox, tenant: Tenant, method: str = "pm_card_visa"
) -> str:
    """Pay on Stripe's hosted invoice page; returns the id of the PaymentIntent."""
    path = f"invoices/{collection_of(tenant).pk}/pay"
    return str(control(sandbox, path, card=method)["payment_intent"]["id"])


def control(sandbox: Sandbox, path: str, **fields: str) -> Any:
    """Make what others than we do at Stripe happen."""
    url = f"{sandbox.url}/_sandbox/{path}"
    response = requests.post(url, json=fields, timeout=60)
    response.raise_for_status()
    return response.json()


def make_default(sandbox: Sandbox, tenant: Tenant, method: str) -> None:
    """Make a payment method the customer's default."""
    settings: Any = {"invoice_settings": {"default_payment_method": method}}
    assert tenant.stripe_customer_id
    sandbox.client().v1.customers.update(tenant.stripe_customer_id, settings)


def deliver_last(sandbox: Sandbox, type: str) -> StripeEvent:
    """Process the last event of a type, as if its webhook had just come."""
    (event,) = sandbox.client().v1.events.list({"type": type, "limit": 1}).data
    data = json.loads(str(event.data))
    stored = StripeEventFactory(
        type=type, object=data["object"], previous=data.get("previous_attributes")
    )
    process_event(event_id=stored.pk)
    stored.refresh_from_db()
    return stored


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
