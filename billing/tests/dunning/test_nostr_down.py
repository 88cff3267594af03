"""While all Nostr relays are down, billing goes on; notices are sent afterwards."""

import pytest
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.dunning.suspension import tenants_to_review
from billing.services.subscriptions.sync import sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tasks import review_tenant
from relays.services.lifecycle import create_relay
from tenants.models import Notice
from tenants.services.notices import deliver_notice
from tenants.services.tenants import get_or_create_tenant
from tenants.tests.support.fixtures import ann, inbox, indexer, outbox

__all__ = ["ann", "inbox", "indexer", "outbox"]

pytestmark = pytest.mark.django_db


def work(tenant) -> None:
    """Sync, collect, review and try to deliver, as the workers do."""
    for _ in range(3):
        sync_tenant(tenant_id=tenant.pk)
        for row in InvoiceCollection.objects.working().filter(tenant=tenant):
            collect_invoice(invoice_id=row.pk)
        for tenant_id in tenants_to_review(timezone.now()):
            review_tenant(tenant_id)
    for notice in Notice.objects.waiting().filter(next_attempt_at__lte=timezone.now()):
        deliver_notice(notice_id=notice.pk)
    tenant.refresh_from_db()


def kinds(**where) -> list[str]:
    rows = Notice.objects.filter(**where).order_by("pk")
    return list(rows.values_list("kind", flat=True))


def test_payments_work_and_notices_wait_while_relays_are_down(
    prices, sandbox, clock, ann, indexer, outbox, inbox
):
    tenant, _ = get_or_create_tenant(pubkey=ann.pubkey)
    create_relay(tenant_id=tenant.pk, subdomain="ann", plan_id="basic")
    work(tenant)
    assert kinds(state="sent") == ["invoice_due"]

    for relay in (indexer, outbox, inbox):
        relay.go_offline()
    clock.move(days=7, minutes=1)
    work(tenant)
    assert tenant.relays.get().status == "delinquent"
    assert kinds(state="waiting") == ["suspended"]
    first = InvoiceCollection.objects.get()
    sandbox.client().v1.invoices.pay(first.pk, {"paid_out_of_band": True})
    clock.move(minutes=1)
    mark_stale(tenant_id=tenant.pk)
    collect_invoice(invoice_id=first.pk)
    work(tenant)

    assert tenant.relays.get().status == "active"
    assert InvoiceCollection.objects.filter(stripe_status="open").count() == 1
    assert kinds(state="sent") == ["invoice_due"]
    for relay in (indexer, outbox, inbox):
        relay.go_online()
    clock.move(hours=2)
    work(tenant)
    assert kinds(state="waiting") == []
    assert kinds(state="sent") == ["invoice_due", "reactivated", "invoice_due"]
    assert kinds(state="dropped") == ["suspended"]
    assert len(ann.messages(inbox)) == 3
