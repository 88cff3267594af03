"""A tenant in sync, made by the product: all others are its copies.

Needs django.setup().
"""

from django.core.management import call_command
from django.utils import timezone

from benchmarks.support.reconciliation.names import INTERVAL, NEWEST, Template
from billing.models import InvoiceCollection
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from relays.models import Plan, Relay
from tenants.models import Tenant

_PUBKEY = "f" * 64
_SUBDOMAIN = "template"


def create() -> Template:
    """Create the prices, and a tenant with a relay and a subscription."""
    call_command("stripe_setup", verbosity=0)
    now = timezone.now()
    tenant = Tenant.objects.create(
        pubkey=_PUBKEY,
        display_name="Alice",
        email="alice@example.com",
        email_confirmed_at=now,
    )
    plan = Plan.objects.get(pk="basic")
    relay = Relay.objects.create(
        tenant=tenant, plan=plan, subdomain=_SUBDOMAIN, first_served_at=now
    )
    mark_stale(tenant_id=tenant.pk)
    if (outcome := sync_tenant(tenant_id=tenant.pk)) != SyncOutcome.IN_SYNC:
        raise RuntimeError(f"the template's sync: {outcome}")
    tenant.refresh_from_db()
    return Template(
        pubkey=tenant.pk,
        relay=str(relay.pk),
        subdomain=_SUBDOMAIN,
        customer=str(tenant.stripe_customer_id),
        subscription=str(tenant.stripe_subscription_id),
        invoice=InvoiceCollection.objects.get(tenant=tenant).stripe_invoice_id,
        created=int(now.timestamp()) - NEWEST * INTERVAL,
    )
