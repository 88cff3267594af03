"""Unpaid invoices switch relays off, by our own clock, and on again when none is left.

A review makes a tenant what its invoices say that it is. It may run at any time, any
number of times; what it would change, `tenants_to_review` finds.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q
from django.utils import timezone

from billing.models import Credit, InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.models.credits import CreditQuerySet
from billing.services.customers.closing import erase_unused_wallet, unused_wallet_q
from billing.services.dunning import notices, payment_block
from billing.services.dunning.reminders import due_reminders, remind
from billing.services.invoices import locks
from relays.models import Relay, RelayQuerySet
from relays.services.lifecycle import mark_relay_delinquent, reactivate_relay
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: How many tenants one tick takes up; the next tick takes the others.
_MOST = 5_000


class Review(StrEnum):
    SUSPENDED = "relays suspended"
    REACTIVATED = "relays on again"
    CREDIT_FIRST = "to be reactivated when its credit is posted"
    UNCHANGED = "relays as they should be"


def review_tenant(*, tenant_id: str) -> Review:
    """Make a tenant's relays, debt and notices fit its invoices.

    Relays go off if, and only if, an invoice is unpaid and its grace is over; only
    those come back that this had switched off. Raises Tenant.DoesNotExist.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(tenant_id)
        payment_block.refresh_payment_block(tenant_id=tenant_id)
        _update_past_due(tenant)
        invoice = payment_block.suspending_invoice(tenant)
        outcome = _suspend(tenant, invoice) if invoice else _reactivate(tenant)
        notices.refresh_unsent(tenant, is_suspended=invoice is not None)
        remind(tenant)
        erase_unused_wallet(tenant)
    if outcome != Review.UNCHANGED:
        logger.info("tenant_reviewed", tenant=tenant_id, outcome=outcome.name)
    return outcome


def tenants_to_review(now: datetime) -> list[str]:
    """Return the tenants in whom a review would change something."""
    suspended_q, blocked_q = (
        payment_block.suspended_q(now),
        payment_block.blocked_q(now),
    )
    not_switched = suspended_q & _has(Relay.objects.billable())
    not_back = ~suspended_q & _has(Relay.objects.delinquent()) & ~_credit_is_owed()
    flagged = Q(payment_overdue_since__isnull=False)
    late = _has(_waiting_for_a_person())
    past_due = Q(past_due_at__isnull=False)
    wrong = (
        not_switched
        | not_back
        | (blocked_q & ~flagged)
        | (~blocked_q & flagged)
        | (late & ~past_due)
        | (~late & past_due)
        | _has(due_reminders(now))
        | unused_wallet_q()
    )
    return list(Tenant.objects.filter(wrong).values_list("pk", flat=True)[:_MOST])


def end_grace_now(*, tenant_id: str, invoice_ids: Collection[str]) -> Review:
    """Let the grace of unpaid invoices end now, with what follows from that.

    Those that are not the tenant's, or not unpaid, are left alone.
    """
    now = timezone.now()
    with transaction.atomic():
        Tenant.objects.lock(tenant_id)
        unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant_id)
        early = unpaid.filter(pk__in=invoice_ids, suspend_at__gt=now).order_by("pk")
        locked = [each.pk for each in early.select_for_update()]
        InvoiceCollection.objects.filter(pk__in=locked).update(suspend_at=now)
        return review_tenant(tenant_id=tenant_id)


def extend_grace(*, invoice_id: str, by: timedelta) -> bool:
    """Give an unpaid invoice more time, from now on if its grace is over.

    Returns False if it is not unpaid. The tenant is reminded of the new time anew.
    """
    tenant_id = InvoiceCollection.objects.get(pk=invoice_id).tenant_id
    with transaction.atomic():
        Tenant.objects.lock(tenant_id)
        collection = locks.lock_collection(invoice_id)
        if not collection.is_unpaid:
            return False
        until = max(collection.suspend_at or timezone.now(), timezone.now()) + by
        notices.reset_deadline_notices(collection)
        InvoiceCollection.objects.filter(pk=invoice_id).update(suspend_at=until)
        review_tenant(tenant_id=tenant_id)
    return True


def _suspend(tenant: Tenant, invoice: InvoiceCollection) -> Review:
    switched = _switch(tenant, Relay.objects.billable(), mark_relay_delinquent)
    off = Relay.objects.delinquent().filter(tenant=tenant)
    # Also when it was another invoice so far that kept them off.
    if switched or (off.exists() and not notices.was_notified_of_suspension(invoice)):
        notices.notify_suspended(invoice)
    return Review.SUSPENDED if switched else Review.UNCHANGED


def _reactivate(tenant: Tenant) -> Review:
    delinquent = Relay.objects.delinquent()
    if not delinquent.filter(tenant=tenant).exists():
        return Review.UNCHANGED
    if Tenant.objects.filter(_credit_is_owed(), pk=tenant.pk).exists():
        return Review.CREDIT_FIRST
    _switch(tenant, delinquent, reactivate_relay)
    invoices = InvoiceCollection.objects.filter(tenant=tenant, suspend_at__isnull=False)
    unpaid = invoices.unpaid().order_by("suspend_at", "pk").first()
    about = unpaid or invoices.order_by("-suspend_at").first()
    if about is not None:
        notices.notify_reactivated(about)
    return Review.REACTIVATED


def _switch(
    tenant: Tenant, relays: RelayQuerySet, service: Callable[..., Relay]
) -> int:
    found = relays.filter(tenant=tenant).order_by("pk")
    ids = list(found.values_list("pk", flat=True))
    for relay_id in ids:
        service(relay_id=relay_id)
    return len(ids)


def _update_past_due(tenant: Tenant) -> None:
    """Keep since when the oldest invoice waits that no wallet and no card has paid."""
    waiting = _waiting_for_a_person().filter(tenant=tenant)
    since = waiting.aggregate(since=Min("finalized_at"))["since"]
    if tenant.past_due_at != since:
        Tenant.objects.filter(pk=tenant.pk).update(past_due_at=since)


def _waiting_for_a_person() -> InvoiceCollectionQuerySet:
    """Return unpaid invoices that a whole rung of the ladder did not get paid."""
    manual = Q(attempts_started=1, state=InvoiceCollection.State.MANUAL)
    return InvoiceCollection.objects.unpaid().filter(manual | Q(attempts_started__gt=1))


def _credit_is_owed() -> Q:
    """Return the condition on tenants that are owed what can be posted at Stripe."""
    return Q(_has(Credit.objects.owed()), stripe_customer_id__isnull=False)


def _has(rows: RelayQuerySet | InvoiceCollectionQuerySet | CreditQuerySet) -> Q:
    return Q(Exists(rows.filter(tenant=OuterRef("pk"))))
