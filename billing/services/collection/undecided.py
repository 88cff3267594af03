"""Invoices of a second subscription: not collected before the sync has decided."""

from datetime import timedelta

from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.models import InvoiceCollection, SubscriptionSync
from billing.models.subscriptions import SubscriptionSyncQuerySet
from billing.services.collection.attempts import Step, Wait
from billing.services.stripe_writes.cancellations import has_ended
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant

_RECHECK_INTERVAL = timedelta(minutes=1)
#: The same after a sync that has left the subscription as it is, such as a paused one.
_LEFT_RECHECK_INTERVAL = timedelta(hours=1)


def wait_for_sync(
    stripe: Stripe, collection: InvoiceCollection, invoice: Invoice
) -> Step:
    """Wait while the sync has neither adopted nor ended the invoice's subscription.

    A person may have duplicated it: most of such an invoice will be credited.
    """
    if is_of_current(collection) or has_ended(collection.stripe_subscription_id):
        return None
    interval = _RECHECK_INTERVAL
    if _was_left_by_sync(collection):
        interval = _LEFT_RECHECK_INTERVAL
    # A stale tenant's sync keeps its own time for the next try.
    elif not _syncs(collection).stale().exists():
        mark_stale(tenant_id=collection.tenant_id)
    is_draft = collection.stripe_status == InvoiceCollection.Status.DRAFT
    state = InvoiceCollection.State.DRAFT if is_draft else collection.State.COLLECTING
    return Wait(
        state,
        "Waiting for the sync to keep or end the subscription",
        timezone.now() + interval,
    )


def is_of_current(collection: InvoiceCollection) -> bool:
    """Return whether an invoice is of its tenant's current subscription."""
    subscription = collection.stripe_subscription_id
    tenants = Tenant.objects.filter(pk=collection.tenant_id)
    return tenants.filter(stripe_subscription_id=subscription).exists()


def _was_left_by_sync(collection: InvoiceCollection) -> bool:
    """Return whether a sync within the last hour must have seen the subscription.

    Another one would only repeat it.
    """
    seen_since = max(
        collection.created_at + _RECHECK_INTERVAL,
        timezone.now() - _LEFT_RECHECK_INTERVAL,
    )
    return _syncs(collection).filter(synced_at__gt=seen_since).exists()


def _syncs(collection: InvoiceCollection) -> SubscriptionSyncQuerySet:
    return SubscriptionSync.objects.filter(pk=collection.tenant_id)
