"""Which tenants' subscriptions may not match their relays."""

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from billing.models import SubscriptionSync
from relays.models import Relay
from tenants.models import Tenant


def mark_stale(*, tenant_id: str, by_hand: bool = False) -> None:
    """Record, in the caller's transaction, that a tenant needs a sync.

    A message that is on its way covers later changes too; `by_hand` sends another one
    all the same.
    """
    with transaction.atomic():
        rows = SubscriptionSync.objects
        rows.bulk_create([SubscriptionSync(tenant_id=tenant_id)], ignore_conflicts=True)
        sync = rows.select_for_update().get(pk=tenant_id)
        now = timezone.now()
        sync.version += 1
        sync.stale_since = sync.stale_since or now
        sync.next_attempt_at = now
        sync.save(update_fields=["version", "stale_since", "next_attempt_at"])
        if by_hand or not sync.is_enqueued(now):
            sync.enqueue()


def mark_all_stale() -> int:
    """Make every tenant that Stripe may know due for a sync now; returns how many.

    The sweep enqueues them, as many a tick as it can take.
    """
    billable = Relay.objects.billable().filter(tenant=OuterRef("pk"))
    tenants = Tenant.objects.filter(
        Q(stripe_customer_id__isnull=False) | Exists(billable)
    ).values_list("pk", flat=True)
    now = timezone.now()
    SubscriptionSync.objects.bulk_create(
        [SubscriptionSync(tenant_id=pk) for pk in tenants],
        ignore_conflicts=True,
        batch_size=1000,
    )
    rows = SubscriptionSync.objects.filter(tenant__in=tenants)
    rows.filter(version=F("synced_version")).update(
        version=F("version") + 1, stale_since=now
    )
    rows.filter(next_attempt_at__gt=now).update(next_attempt_at=now)
    return rows.count()
