"""Closing a tenant: it is never deleted, and what it owes is still collected."""

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
    """Switch a tenant's relays off for good; the sync that follows ends the rest.

    Its wallet is forgotten when nothing is left for it to pay. Returns False if it is
    closed already. Raises Tenant.DoesNotExist.
    """
    with transaction.atomic():
        if not tenants.close_tenant(pubkey=tenant_id):
            return False
        for relay_id in _relays_on(tenant_id):
            deactivate_relay(relay_id=relay_id)
        erase_unused_wallet(Tenant.objects.get(pk=tenant_id))
    return True


def reopen_tenant(*, tenant_id: str) -> bool:
    """Let a closed tenant have relays again; those that it had stay off."""
    return tenants.reopen_tenant(pubkey=tenant_id)


def erase_unused_wallet(tenant: Tenant) -> bool:
    """Forget a closed tenant's wallet once nothing is left for it to pay."""
    if not Tenant.objects.filter(unused_wallet_q(), pk=tenant.pk).exists():
        return False
    tenants.set_wallet(pubkey=tenant.pk, nwc_url="")
    return True


def unused_wallet_q() -> Q:
    """Return the condition on tenants whose wallet is to be erased.

    A subscription that lives on, or a draft, may yet become something to be paid.
    """
    mine = InvoiceCollection.objects.filter(tenant=OuterRef("pk"))
    draft = mine.filter(stripe_status=InvoiceCollection.Status.DRAFT)
    attempts = NwcPayment.objects.pending().filter(tenant=OuterRef("pk"))
    return Q(
        ~Exists(mine.unpaid()),
        ~Exists(draft),
        ~Exists(attempts),
        ~Q(nwc_url=""),
        closed_at__isnull=False,
        stripe_subscription_id=None,
    )


def _relays_on(tenant_id: str) -> list[UUID]:
    on = Relay.objects.exclude(status=Relay.Status.INACTIVE).order_by("pk")
    return list(on.filter(tenant_id=tenant_id).values_list("pk", flat=True))
