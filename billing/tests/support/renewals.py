"""A renewal as Caravel sees it: Stripe's events, and the tasks that they cause."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.utils import timezone

from billing.models import InvoiceCollection, StripeEvent
from billing.services.collection.collect import collect_enqueued
from billing.services.events.process import process_event
from billing.tests.factories import StripeEventFactory
from billing.tests.support.collection import collect
from lightning.models import NwcPayment
from lightning.tests.support.payments import run_payment
from sandbox.stripe.client.testing import Sandbox
from tenants.models import Tenant

#: Requests of the test itself.
_READ_BY_TESTS = "/v1/events"


def new_events(sandbox: Sandbox) -> list[StripeEvent]:
    """Store Stripe's events as their webhooks would, and return the new ones."""
    stored: list[StripeEvent] = []
    for sent in reversed(sandbox.client().v1.events.list({"limit": 100}).data):
        if not StripeEvent.objects.filter(pk=sent.id).exists():
            body = json.dumps(sent.to_dict(for_json=True))
            stored.append(StripeEventFactory(id=sent.id, type=sent.type, body=body))
    return stored


def process(event: StripeEvent) -> str:
    """Process an event; return its outcome."""
    process_event(event_id=event.pk)
    event.refresh_from_db()
    return str(event.outcome)


def skip_events(sandbox: Sandbox) -> None:
    """Let all events until now count as processed."""
    for event in new_events(sandbox):
        StripeEvent.objects.filter(pk=event.pk).update(
            status=StripeEvent.Status.PROCESSED, processed_at=timezone.now()
        )


def work(sandbox: Sandbox) -> None:
    """Process all events, and after each of them the tasks that it has enqueued.

    In no other order are invoices read more often: no message covers two events.
    """
    while events := new_events(sandbox):
        for event in events:
            process(event)
            run_tasks()


def enqueued() -> list[str]:
    """Return the invoices whose collection is enqueued."""
    rows = InvoiceCollection.objects.filter(enqueued_at__isnull=False)
    return list(rows.values_list("pk", flat=True))


def requests_of(sandbox: Sandbox, act: Callable[[], object]) -> Counter[str]:
    """Return the requests to Stripe that a function makes, without their ids."""
    before = len(sandbox.requests())
    act()
    return Counter(_names(sandbox.requests()[before:]))


def run_tasks() -> None:
    """Collect what is enqueued, and have wallets pay, until nothing is left."""
    while invoices := enqueued():
        for invoice_id in invoices:
            collect_enqueued(invoice_id=invoice_id)
        for payment in NwcPayment.objects.pending().filter(sent_at=None):
            run_payment(payment_id=payment.pk)


def _names(requests: list[dict[str, Any]]) -> Iterator[str]:
    for each in requests:
        path = each["path"].partition("?")[0]
        if not path.startswith(_READ_BY_TESTS):
            kind, *rest = path.removeprefix("/v1/").split("/")
            yield "/".join([f"{each['method']} {kind}", *rest[1:]])


def pay_first_invoice(tenant: Tenant, sandbox: Sandbox) -> None:
    """Have a new subscriber's first invoice paid and collected, and its events read."""
    first = collect(tenant)
    sandbox.client().v1.invoices.pay(first.pk, {"paid_out_of_band": True})
    assert collect(tenant).state == "closed"
    skip_events(sandbox)


def until_draft(sandbox: Sandbox) -> timedelta:
    """Return the time until the only subscription has renewed: months differ."""
    [subscription] = sandbox.client().v1.subscriptions.list({}).data
    end = subscription["items"].data[0].current_period_end
    return timedelta(seconds=end - sandbox.now(), minutes=30)
