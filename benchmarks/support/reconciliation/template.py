"""A tenant in sync, made by the product: all others are its copies.

Needs django.setup().
"""

from dataclasses import dataclass

from django.core.management import call_command
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from relays.models import Plan, Relay
from tenants.models import Tenant

#: All numbers of copies have this many digits.
DIGITS = 14
_PUBKEY = "f" * 64
_SUBDOMAIN = "template"
#: Seconds between the creations of two subscriptions.
INTERVAL = 60
#: Copies are older than the template: so many intervals for the first.
OLDEST = 250_000


@dataclass(frozen=True)
class Template:
    """The names that differ between the copies."""

    pubkey: str
    relay: str
    subdomain: str
    customer: str
    subscription: str
    invoice: str
    #: When the first copy was created, in Unix seconds.
    created: int

    def names(self, number: int) -> dict[str, str]:
        """Return the names of a copy by those of the template."""
        digits = f"{number:0{DIGITS}}"
        return {
            self.pubkey: f"{number:064x}",
            self.customer: f"cus_{digits}",
            self.subscription: f"sub_{digits}",
            self.invoice: f"in_{digits}",
        }

    def created_at(self, number: int) -> int:
        """Return when a copy was created, in Unix seconds."""
        return self.created + number * INTERVAL


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
        created=int(now.timestamp()) - OLDEST * INTERVAL,
    )
