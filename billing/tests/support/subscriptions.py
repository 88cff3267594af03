"""Tenants with relays, their syncs, and their subscriptions at the sandbox Stripe."""

from typing import Any

from billing.models import SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credits
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from relays.models import Plan, Relay
from relays.tests.factories import RelayFactory
from tenants.models import Tenant

SUBSCRIPTIONS_PATH = "/v1/subscriptions"


def add_relay(tenant: Tenant, plan: str = "basic", **fields: Any) -> Relay:
    return RelayFactory(tenant=tenant, plan=Plan.objects.get(pk=plan), **fields)


def sync(
    tenant: Tenant, expected: SyncOutcome = SyncOutcome.IN_SYNC
) -> SubscriptionSync:
    """Sync the tenant, check the outcome, and return the sync's row."""
    mark_stale(tenant_id=tenant.pk)
    outcome = sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()
    row = SubscriptionSync.objects.get(pk=tenant.pk)
    assert outcome == expected, row.last_error
    return row


def sync_until_in_sync(tenant: Tenant) -> None:
    """Sync twice: the first sync may switch relays, which needs another."""
    mark_stale(tenant_id=tenant.pk)
    for _ in range(2):
        sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()
    assert not SubscriptionSync.objects.get(pk=tenant.pk).is_stale


def collect_invoices(tenant: Tenant) -> None:
    """Finalize the tenant's invoices, and read them again."""
    for collection in tenant.collections.all():
        collect_invoice(invoice_id=collection.pk)


def post_collect_and_sync(tenant: Tenant) -> None:
    """Do what the workers do after a sync."""
    post_credits(tenant_id=tenant.pk)
    collect_invoices(tenant)
    sync(tenant)


def all_subscriptions(sandbox):
    return sandbox.client().v1.subscriptions.list({"status": "all"}).data


def live_items(sandbox, tenant: Tenant) -> dict[str, int]:
    """Return the quantity per price of the tenant's only live subscription."""
    (live,) = [s for s in all_subscriptions(sandbox) if s.status == "active"]
    assert live.id == tenant.stripe_subscription_id
    return {item.price.id: item.quantity for item in live.items.data}


def create_subscription_at_stripe(sandbox, tenant: Tenant, price: str, **params):
    """Create a subscription without Caravel, as staff could."""
    return sandbox.client().v1.subscriptions.create(
        {
            "customer": tenant.stripe_customer_id,
            "items": [{"price": price, "quantity": 1}],
            "collection_method": "send_invoice",
            "days_until_due": 7,
            "metadata": {"tenant_pubkey": tenant.pk},
            **params,
        }
    )


def rewrite_subscription(sandbox, subscription_id: str, **fields: Any) -> None:
    """Change fields of a subscription that no API call can change."""

    def work(context):
        with context.update("subscription", subscription_id) as draft:
            draft.update(fields)

    sandbox.app.transact(work)


def finalize_drafts(sandbox) -> None:
    client = sandbox.client()
    for invoice in client.v1.invoices.list({"status": "draft"}).data:
        client.v1.invoices.finalize_invoice(invoice.id)


def pay_all_invoices(sandbox) -> None:
    finalize_drafts(sandbox)
    client = sandbox.client()
    for invoice in client.v1.invoices.list({"status": "open"}).data:
        client.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
