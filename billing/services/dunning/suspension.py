"""Dunning: relays are off while an invoice is unpaid past its grace period.

The grace period ends by our own clock (`suspend_at`), not by Stripe's subscription
status. Relays are also off while the subscription is paused at Stripe (ADR 20). A
review is idempotent: it makes a tenant's relays, flags and notices match its invoices.
`tenants_to_review` finds the tenants for whom it would change something.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, Min, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from billing.exceptions import GraceLimitExceeded
from billing.models import Credit, InvoiceCollection, SubscriptionSync
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.customers.closing import erase_unused_wallet, unused_wallet_q
from billing.services.customers.stripe_account import check_account
from billing.services.dunning import notices, payment_block
from billing.services.dunning.payment_prompts import refresh_prompts
from billing.services.dunning.reminders import (
    invoices_to_remind_of,
    send_due_reminders,
)
from billing.services.invoices import locks
from caravel.core.db.prepared import PreparedQuery
from relays.models import Relay, RelayQuerySet
from relays.services.end_of_life.review import review_relay
from relays.services.lifecycle import mark_relay_delinquent, reactivate_relay
from tenants.models import Notice, Tenant

logger = structlog.get_logger(__name__)

#: Tenants per beat tick; the next tick takes the rest.
_MAX_TENANTS = 5_000


class Review(StrEnum):
    SUSPENDED = "relays suspended"
    REACTIVATED = "relays reactivated"
    CREDIT_FIRST = "relays are reactivated when the credit is posted"
    UNCHANGED = "no change"


def review_tenant(*, tenant_id: str) -> Review:
    """Make a tenant's relays, payment block and notices match its invoices.

    Paid relays are delinquent if and only if an invoice is unpaid past its grace
    period, or the subscription is paused. Only delinquent relays are reactivated: a
    relay that a person made inactive stays inactive. Raises Tenant.DoesNotExist.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(tenant_id)
        payment_block.refresh_locked(tenant)
        _update_past_due(tenant)
        invoice = payment_block.suspending_invoice(tenant)
        paused_at = payment_block.paused_since(tenant)
        if invoice:
            outcome = _suspend(tenant, invoice)
        else:
            outcome = _pause(tenant, paused_at) if paused_at else _reactivate(tenant)
        notices.refresh_unsent(tenant, is_suspended=bool(invoice or paused_at))
        send_due_reminders(tenant)
        erase_unused_wallet(tenant)
    if outcome != Review.UNCHANGED:
        logger.info("tenant_reviewed", tenant=tenant_id, outcome=outcome.name)
    return outcome


def review_if_needed(*, tenant_id: str) -> None:
    """Review a tenant, unless one statement shows that nothing would change."""
    rows = _STATE.fetch(tenant_id, timezone.now())
    if not rows or _may_change(*rows[0]):
        review_tenant(tenant_id=tenant_id)


def _state(tenant_id: str, now: datetime) -> models.QuerySet[Tenant, Any]:
    """Return the state of a tenant that a review compares with its invoices.

    `switches` is about relays, notices and reminders.
    """
    manual = _needs_manual_payment(now).filter(tenant=OuterRef("pk"))
    switches = (
        payment_block.suspended_q(now)
        | payment_block.paused_q()
        | _has(Relay.objects.delinquent())
        | _has(Notice.objects.unsent())
        | _has(invoices_to_remind_of(now))
        | unused_wallet_q()
    )
    rows = Tenant.objects.filter(pk=tenant_id).annotate(
        switches=switches,
        blocked=payment_block.blocked_q(now),
        on_hold=payment_block.on_hold_q(),
        since=Subquery(manual.order_by("finalized_at").values("finalized_at")[:1]),
    )
    flags = ("payment_overdue_since", "billing_on_hold_since", "past_due_at")
    return rows.values_list("switches", "blocked", "on_hold", "since", *flags)


_STATE = PreparedQuery(_state)


def _may_change(
    switches: bool,
    blocked: bool,
    on_hold: bool,
    since: datetime | None,
    blocked_since: datetime | None,
    on_hold_since: datetime | None,
    past_due_at: datetime | None,
) -> bool:
    flags = (bool(blocked_since), bool(on_hold_since), past_due_at)
    return switches or flags != (blocked, on_hold, since)


def tenants_to_review(now: datetime) -> list[str]:
    """Return the ids of tenants for whom a review would change something.

    Raises StripeNotExecuted until the Stripe account is known to be the right one:
    nobody is suspended for an invoice that cannot be paid.
    """
    check_account()
    suspended, blocked = payment_block.suspended_q(now), payment_block.blocked_q(now)
    paused, on_hold = payment_block.paused_q(), payment_block.on_hold_q()
    off = suspended | paused
    to_suspend = off & _has(Relay.objects.suspendable())
    waits = _owed_credit_q() & ~blocked
    to_reactivate = ~off & _has(Relay.objects.delinquent()) & ~waits
    flagged = Q(payment_overdue_since__isnull=False)
    held = Q(billing_on_hold_since__isnull=False)
    manual = _has(_needs_manual_payment(now))
    past_due = Q(past_due_at__isnull=False)
    differs = (
        to_suspend
        | to_reactivate
        | (blocked & ~flagged)
        | (~blocked & flagged)
        | (on_hold & ~held)
        | (~on_hold & held)
        | (manual & ~past_due)
        | (~manual & past_due)
        | _has(invoices_to_remind_of(now))
        | unused_wallet_q()
    )
    tenants = Tenant.objects.filter(differs, pk__in=_candidates())
    return list(tenants.values_list("pk", flat=True)[:_MAX_TENANTS])


def _candidates() -> QuerySet[Tenant, Any]:
    """Return the tenants that a review could concern: few, each found in an index.

    Each condition of `tenants_to_review` implies one of these. Without them it would
    be evaluated for every tenant.
    """
    tenants = Tenant.objects.order_by()
    flagged = (
        Q(payment_overdue_since__isnull=False)
        | Q(billing_on_hold_since__isnull=False)
        | Q(past_due_at__isnull=False)
    )
    closed = tenants.filter(~Q(nwc_url=""), closed_at__isnull=False)
    of_rows = (
        InvoiceCollection.objects.unpaid(),
        InvoiceCollection.objects.refused_sales(),
        SubscriptionSync.objects.filter(paused_at__isnull=False),
        Relay.objects.delinquent(),
    )
    return (
        tenants.filter(flagged)
        .values("pk")
        .union(
            closed.values("pk"), *(rows.order_by().values("tenant") for rows in of_rows)
        )
    )


def end_grace_now(*, tenant_id: str, invoice_ids: Collection[str]) -> Review:
    """End the grace period of unpaid invoices, and review the tenant.

    Only unpaid invoices of this tenant are changed.
    """
    now = timezone.now()
    with transaction.atomic():
        Tenant.objects.lock(tenant_id)
        unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant_id)
        in_grace = unpaid.filter(pk__in=invoice_ids, suspend_at__gt=now).order_by("pk")
        # Locked by primary key, as everywhere: two workers cannot deadlock.
        locked = [each.pk for each in in_grace.select_for_update()]
        InvoiceCollection.objects.filter(pk__in=locked).update(suspend_at=now)
        return review_tenant(tenant_id=tenant_id)


def extend_grace(*, invoice_id: str, by: timedelta) -> bool:
    """Extend the grace period of an unpaid invoice, from now if it has ended.

    The relays return at once, and reminders are sent again before the new deadline.
    Returns False if the invoice has nothing left to pay. Raises GraceLimitExceeded.
    """
    tenant_id = InvoiceCollection.objects.get(pk=invoice_id).tenant_id
    with transaction.atomic():
        Tenant.objects.lock(tenant_id)
        collection = locks.lock_collection(invoice_id)
        if not collection.is_unpaid:
            return False
        until = max(collection.suspend_at or timezone.now(), timezone.now()) + by
        _require_within_limit(collection, until)
        notices.reset_deadline_notices(collection)
        InvoiceCollection.objects.filter(pk=invoice_id).update(suspend_at=until)
        review_tenant(tenant_id=tenant_id)
    return True


def _require_within_limit(collection: InvoiceCollection, until: datetime) -> None:
    days = settings.BILLING_MAX_GRACE_DAYS
    start = collection.finalized_at or collection.created_at
    if until > start + timedelta(days=days):
        raise GraceLimitExceeded(
            f"The grace period of {collection.number or collection.pk} may end at most "
            f"{days} days after it was finalized (BILLING_MAX_GRACE_DAYS). To let the "
            "relays run longer, make the tenant exempt from dunning."
        )


def remind_of_debt(*, tenant_id: str) -> bool:
    """Send the notice of the suspension again: it has the link to pay.

    Returns False if nothing is overdue, or if it was sent within a day, since several
    relays of a tenant have the same dates.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(tenant_id)
        invoice = payment_block.suspending_invoice(tenant)
        if not invoice or notices.was_just_notified(tenant):
            return False
        notices.notify_suspended(invoice)
    return True


def resume_relays(tenant: Tenant) -> None:
    """Switch the relays of a locked tenant on after a pause, unless it must pay.

    Without waiting for credits to be posted: the subscription lives, so that no invoice
    is created now.
    """
    if payment_block.is_suspended(tenant):
        return
    if _switch(tenant, Relay.objects.delinquent(), reactivate_relay):
        notices.notify_resumed(tenant, timezone.now())


def _pause(tenant: Tenant, at: datetime) -> Review:
    switched = _switch(tenant, Relay.objects.suspendable(), mark_relay_delinquent)
    if Relay.objects.delinquent().filter(tenant=tenant).exists():
        # Also if a debt kept them off until now.
        notices.notify_paused(tenant, at)
    return Review.SUSPENDED if switched else Review.UNCHANGED


def _suspend(tenant: Tenant, invoice: InvoiceCollection) -> Review:
    switched = _switch(tenant, Relay.objects.suspendable(), mark_relay_delinquent)
    off = Relay.objects.delinquent().filter(tenant=tenant)
    _date_relays(off)
    # Also if another invoice kept them off until now: the link must be the right one.
    if switched or (off.exists() and not notices.was_notified_of_suspension(invoice)):
        notices.notify_suspended(invoice)
    return Review.SUSPENDED if switched else Review.UNCHANGED


def _date_relays(off: RelayQuerySet) -> None:
    """Set the dates of relays that a pause has switched off, for the notice."""
    undated = off.filter(export_offer_at=None)
    for relay_id in undated.order_by("pk").values_list("pk", flat=True):
        review_relay(relay_id=relay_id, now=timezone.now())


def _reactivate(tenant: Tenant) -> Review:
    delinquent = Relay.objects.delinquent()
    if not delinquent.filter(tenant=tenant).exists():
        return Review.UNCHANGED
    # Credits first: the invoice that the next sync creates must use them. While
    # purchases are blocked it creates none, and a credit can wait for hours.
    owed_credit = Tenant.objects.filter(_owed_credit_q(), pk=tenant.pk)
    if not payment_block.is_blocked(tenant) and owed_credit.exists():
        return Review.CREDIT_FIRST
    _switch(tenant, delinquent, reactivate_relay)
    invoices = InvoiceCollection.objects.filter(tenant=tenant, suspend_at__isnull=False)
    unpaid = invoices.unpaid().order_by("suspend_at", "pk").first()
    invoice = unpaid or invoices.order_by("-suspend_at").first()
    if invoice is not None:
        notices.notify_reactivated(invoice)
    return Review.REACTIVATED


def _switch(
    tenant: Tenant, relays: RelayQuerySet, service: Callable[..., Relay]
) -> int:
    rows = relays.filter(tenant=tenant).order_by("pk")
    ids = list(rows.values_list("pk", flat=True))
    for relay_id in ids:
        service(relay_id=relay_id)
    return len(ids)


def _update_past_due(tenant: Tenant) -> None:
    """Store since when the oldest invoice waits for a manual payment."""
    waiting = _needs_manual_payment(timezone.now()).filter(tenant=tenant)
    since = waiting.aggregate(since=Min("finalized_at"))["since"]
    if tenant.past_due_at != since:
        Tenant.objects.filter(pk=tenant.pk).update(past_due_at=since)
        refresh_prompts(tenant_id=tenant.pk)


def _needs_manual_payment(now: datetime) -> InvoiceCollectionQuerySet:
    """Return unpaid invoices that only the tenant can pay.

    One whole automatic attempt has failed, or it is disputed money. Not those that
    have been paid, as far as is known: nothing is to be done meanwhile.
    """
    manual = Q(attempts_started=1, state=InvoiceCollection.State.MANUAL)
    failed = manual | Q(attempts_started__gt=1)
    waiting = InvoiceCollection.objects.unpaid().not_being_paid(now)
    return waiting.filter(failed | Q(dispute_debt_cents__gt=0))


def _owed_credit_q() -> Q:
    """Return a filter on tenants with a credit that can be posted at Stripe."""
    return Q(_has(Credit.objects.unblocked()), stripe_customer_id__isnull=False)


def _has(rows: models.QuerySet[Any, Any]) -> Q:
    return Q(Exists(rows.filter(tenant=OuterRef("pk"))))
