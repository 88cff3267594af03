"""Ownership of a customer's subscriptions and invoices: ours, or another service's.

Metadata that names the tenant suffices, but is not needed: others can edit it.
"""

from collections.abc import Iterable

from django.db import transaction

from billing.clients.stripe.client import Invoice, Subscription
from billing.models import InvoiceCollection, StripeWrite, SubscriptionSync
from caravel.core.alerts import alert_support
from tenants.models import Tenant

#: Metadata key of a subscription or a customer: the tenant's public key.
TENANT_KEY = "tenant_pubkey"


def own_subscriptions(
    tenant: Tenant, subscriptions: Iterable[Subscription]
) -> list[Subscription]:
    """Return those of a customer's subscriptions that are ours; disowns the others."""
    listed = list(subscriptions)
    known = _known_subscriptions(tenant, [each.id for each in listed])
    own = [
        each
        for each in listed
        if each.id in known or each.metadata.get(TENANT_KEY) == tenant.pubkey
    ]
    disown(tenant, [each.id for each in listed if each not in own])
    return own


def is_own_invoice(tenant: Tenant, invoice: Invoice) -> bool:
    """Return whether an invoice is for the tenant's relays."""
    if not invoice.subscription:
        return False
    is_named = invoice.tenant_pubkey == tenant.pubkey
    return is_named or bool(_known_subscriptions(tenant, [invoice.subscription]))


def disown(tenant: Tenant, ids: Iterable[str]) -> None:
    """Alert support, once each, to objects of the tenant's customer that are not ours.

    They may be another service's, or ours with a lost origin.
    """
    wanted = set(ids)
    new = remember_foreign(tenant.pk, wanted) if wanted else []
    for id in new:
        message = f"{id} of the customer {tenant.stripe_customer_id} is not collected."
        alert_support("not_ours", message, tenant=tenant.pk, id=id)


def remember_foreign(tenant_id: str, ids: set[str]) -> list[str]:
    """Store objects at Stripe that are not collected; returns those that are new."""
    with transaction.atomic():
        rows = SubscriptionSync.objects
        rows.bulk_create([SubscriptionSync(tenant_id=tenant_id)], ignore_conflicts=True)
        sync: SubscriptionSync = rows.select_for_update().get(pk=tenant_id)
        new = sorted(ids.difference(sync.foreign_ids))
        if new:
            rows.filter(pk=tenant_id).update(foreign_ids=[*sync.foreign_ids, *new])
    return new


def _known_subscriptions(tenant: Tenant, ids: list[str]) -> set[str]:
    """Return the ids of subscriptions that are or were the tenant's."""
    if {*ids} <= {tenant.stripe_subscription_id}:
        return {*ids}
    writes = StripeWrite.objects.filter(tenant=tenant)
    created = writes.filter(stripe_id__in=ids).values_list("stripe_id", flat=True)
    cancelled = writes.filter(subject__in=ids).values_list("subject", flat=True)
    invoices = InvoiceCollection.objects.filter(tenant=tenant)
    billed = invoices.filter(stripe_subscription_id__in=ids)
    current = Tenant.objects.filter(pk=tenant.pk, stripe_subscription_id__in=ids)
    return {
        *created,
        *cancelled,
        *billed.values_list("stripe_subscription_id", flat=True),
        *(str(id) for id in current.values_list("stripe_subscription_id", flat=True)),
    }
