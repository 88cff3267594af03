"""Queue of tenants whose subscriptions may not match their relays."""

from itertools import islice

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from billing.models import SubscriptionSync
from relays.models import Relay
from tenants.models import Tenant
from tenants.models.tenants import TenantQuerySet


def mark_stale(
    *, tenant_id: str, force: bool = False, relays_changed: bool = False
) -> None:
    """Record, in the caller's transaction, that a tenant needs a sync.

    A message that is on its way covers later changes too; `force` sends another in any
    case. Once `relays_changed`, nothing is dated back to an earlier quote.
    """
    with transaction.atomic(savepoint=False):
        rows = SubscriptionSync.objects
        rows.bulk_create([SubscriptionSync(tenant_id=tenant_id)], ignore_conflicts=True)
        sync = rows.select_for_update().get(pk=tenant_id)
        now = timezone.now()
        sync.version += 1
        sync.stale_since = sync.stale_since or now
        sync.next_attempt_at = now
        sync.quoted = {} if relays_changed else sync.quoted
        columns = ["version", "stale_since", "next_attempt_at", "quoted"]
        sync.save(update_fields=columns)
        if force or not sync.is_enqueued(now):
            sync.enqueue()


def retry_failed(*, plan_id: str) -> None:
    """Make the failed syncs of tenants with a relay on this plan due now."""
    failed = SubscriptionSync.objects.stale().filter(failures__gt=0)
    failed.filter(tenant__relays__plan=plan_id).update(next_attempt_at=timezone.now())


def mark_all_stale() -> int:
    """Make a sync due for every tenant that Stripe may know; returns their number.

    The sweep enqueues them in batches.
    """
    add_missing(Tenant.objects.all())
    now = timezone.now()
    rows = SubscriptionSync.objects.filter(tenant__in=_billed(Tenant.objects.all()))
    rows.filter(version=F("synced_version")).update(
        version=F("version") + 1, stale_since=now
    )
    # Do not wait for the retry of a failed sync.
    rows.filter(next_attempt_at__gt=now).update(next_attempt_at=now)
    return rows.count()


def add_missing(tenants: TenantQuerySet) -> None:
    """Add the row of each tenant that Stripe may know and that has none yet."""
    missing = _billed(tenants).filter(subscription_sync=None)
    keys = missing.values_list("pk", flat=True).iterator()
    while batch := list(islice(keys, 1_000)):
        SubscriptionSync.objects.bulk_create(
            [SubscriptionSync(tenant_id=pk) for pk in batch], ignore_conflicts=True
        )


def _billed(tenants: TenantQuerySet) -> TenantQuerySet:
    billable = Relay.objects.billable().filter(tenant=OuterRef("pk"))
    known = Q(stripe_customer_id__isnull=False) | Exists(billable)
    return tenants.filter(known).order_by()
