"""Costs of the tasks that run most often: statements, and new database connections.

A worker runs each of them a million times in a month of 100,000 tenants.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection
from django.db.backends.signals import connection_created
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.customers.catalog import ensure_prices
from billing.services.sync.queue import mark_stale
from billing.tests.factories import StripeEventFactory
from caravel.tests.support.celery_tasks import run_as_worker, worker_fixup
from relays.tests.factories import RelayFactory
from tenants.models import Notice

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@dataclass
class Cost:
    statements: list[str] = field(default_factory=list)
    connections: int = 0


@contextmanager
def measured() -> Iterator[Cost]:
    """Record the statements and the new connections of the block."""
    cost = Cost()

    def record(execute: Any, sql: str, *args: Any) -> Any:
        cost.statements.append(sql)
        return execute(sql, *args)

    def count(**kwargs: object) -> None:
        cost.connections += 1

    connection.ensure_connection()
    # Else it may be replaced because it is old.
    connection.close_at = None
    connection_created.connect(count)
    try:
        with worker_fixup(), connection.execute_wrapper(record):
            yield cost
    finally:
        connection_created.disconnect(count)


def cost_of(task: str, key: str) -> Cost:
    with measured() as cost:
        run_as_worker(f"billing.tasks.{task}", key)
    return cost


@pytest.fixture
def invoice(sandbox, settings, monkeypatch):
    """The draft of a tenant in sync; no message is sent."""
    monkeypatch.setattr(
        "caravel.core.celery_task.CaravelTask.apply_async", lambda *a, **k: None
    )
    ensure_prices(Stripe())
    tenant = RelayFactory().tenant
    run_as_worker("billing.tasks.sync_subscription", tenant.pk)
    return InvoiceCollection.objects.get(tenant=tenant)


def event_on(invoice, type: str) -> StripeEvent:
    customer = invoice.stripe_customer_id
    sent = {"id": invoice.pk, "object": "invoice", "customer": customer}
    return StripeEventFactory(type=type, object=sent)


def test_sync_of_a_tenant_in_sync(invoice):
    mark_stale(tenant_id=invoice.tenant_id)

    cost = cost_of("sync_subscription", invoice.tenant_id)

    assert not SubscriptionSync.objects.stale().exists()
    assert cost.connections == 0
    assert len(cost.statements) <= 16, cost.statements


def test_event_without_a_handler(invoice):
    event = event_on(invoice, "invoice.sent")

    cost = cost_of("process_stripe_event", event.pk)

    event.refresh_from_db()
    assert (event.status, event.outcome) == ("processed", "no handler for this type")
    assert cost.connections == 0
    assert len(cost.statements) == 2, cost.statements


def test_event_on_an_invoice(invoice):
    event = event_on(invoice, "invoice.finalized")

    cost = cost_of("process_stripe_event", event.pk)

    event.refresh_from_db()
    assert event.outcome == "collection enqueued"
    assert cost.connections == 0
    assert len(cost.statements) <= 7, cost.statements


def test_collection_with_nothing_new(invoice):
    run_as_worker("billing.tasks.collect_invoice", invoice.pk)
    # Until its notices are sent, a review looks at each of them.
    Notice.objects.update(state=Notice.State.SENT, sent_at=timezone.now())

    cost = cost_of("collect_invoice", invoice.pk)

    invoice.refresh_from_db()
    assert (invoice.state, invoice.last_error) == ("manual", "")
    assert cost.connections == 0
    assert len(cost.statements) <= 23, cost.statements
