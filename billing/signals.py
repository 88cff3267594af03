from typing import Any

from celery.signals import worker_ready
from django.conf import settings
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from billing.models import SubscriptionSync
from billing.services.staleness import mark_stale
from billing.tasks import (
    reconcile_subscriptions,
    review_tenant,
    sync_subscription,
)
from relays.models import Relay
from tenants.models import Tenant

#: The columns of a relay that its tenant's subscription depends on.
_BILLED = {"plan", "plan_id", "status", "tenant", "tenant_id"}


@receiver(post_save, sender=Relay, dispatch_uid="billing.relay_saved")
def mark_stale_on_relay_save(
    sender: type[Relay],
    instance: Relay,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    if raw or (update_fields is not None and not _BILLED & update_fields):
        return
    mark_stale(tenant_id=instance.tenant_id)


@receiver(post_delete, sender=Relay, dispatch_uid="billing.relay_deleted")
def mark_stale_on_relay_delete(
    sender: type[Relay], instance: Relay, **kwargs: Any
) -> None:
    mark_stale(tenant_id=instance.tenant_id)


@receiver(post_save, sender=SubscriptionSync, dispatch_uid="billing.sync_enqueued")
def enqueue_sync(
    sender: type[SubscriptionSync],
    instance: SubscriptionSync,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    just_set = update_fields is None or "enqueued_at" in update_fields
    if raw or instance.enqueued_at is None or not just_set:
        return
    sync_subscription.apply_async_on_commit(
        (instance.pk,), countdown=settings.BILLING_SYNC_DELAY
    )


@receiver(post_save, sender=Tenant, dispatch_uid="billing.tenant_saved")
def review_on_exemption(
    sender: type[Tenant],
    instance: Tenant,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    if not raw and update_fields is not None and "dunning_exempt" in update_fields:
        review_tenant.delay_on_commit(instance.pk)


@worker_ready.connect(dispatch_uid="billing.reconcile_at_start")
def reconcile_at_worker_start(**kwargs: Any) -> None:
    reconcile_subscriptions.delay_on_commit()
