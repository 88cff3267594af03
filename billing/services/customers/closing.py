"""Closing accounts. A tenant is never deleted, and its debts are still collected."""

from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from billing.models import InvoiceCollection
from lightning.models import NwcPayment
from relays.models import Relay
from relays.services.lifecycle import deactivate_relay
from tenants.models import Tenant
from tenants.services import tenants


def close_tenant(*, tenant_id: str) -> bool:
    """Close a tenant and deactivate its relays; the next sync ends its subscription.

    Its wallet is erased once it has nothing left to pay. Returns False if the tenant
    is closed already. Raises Tenant.DoesNotExist.
    """
    with transaction.atomic():
        if not tenants.close_tenant(pubkey=tenant_id):
            return False
        for relay_id in _running_relays(tenant_id):
            deactivate_relay(relay_id=relay_id)
        erase_unused_wallet(Tenant.objects.get(pk=tenant_id))
    return True


def reopen_tenant(*, tenant_id: str) -> bool:
    """Allow a closed tenant to have relays again; its old ones stay inactive."""
    return tenants.reopen_tenant(pubkey=tenant_id)


def erase_unused_wallet(tenant: Tenant) -> bool:
    """Erase a closed tenant's wallet if it has nothing left to pay."""
    if not Tenant.objects.filter(unused_wallet_q(), pk=tenant.pk).exists():
        return False
    tenants.set_wallet(pubkey=tenant.pk, nwc_url="")
    return True


def unused_wallet_q() -> Q:
    """Match closed tenants whose wallet has nothing left to pay.

    A live subscription or a draft may still lead to an invoice to pay.
    """
    invoices = InvoiceCollection.objects.filter(tenant=OuterRef("pk"))
    drafts = invoices.filter(stripe_status=InvoiceCollection.Status.DRAFT)
    attempts = NwcPayment.objects.pending().filter(tenant=OuterRef("pk"))
    return Q(
        ~Exists(invoices.unpaid()),
        ~Exists(drafts),
        ~Exists(attempts),
        ~Q(nwc_url=""),
        closed_at__isnull=False,
        stripe_subscription_id=None,
    )


def _running_relays(tenant_id: str) -> list[UUID]:
    # Lock order: rows by primary key.
    running = Relay.objects.exclude(status=Relay.Status.INACTIVE).order_by("pk")
    return list(running.filter(tenant_id=tenant_id).values_list("pk", flat=True))
