"""Reminders before an unpaid invoice switches relays off: each stage at most once."""

from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.dunning.notices import REMINDERS, notify_reminder
from tenants.models import Notice, Tenant


def send_due_reminders(tenant: Tenant) -> int:
    """Send the reminders that are due, in the caller's transaction; return how many.

    Exempt tenants get none.
    """
    sent = 0
    now = timezone.now()
    # One query, since in most reviews none is due.
    if not invoices_to_remind_of(now).filter(tenant=tenant).exists():
        return 0
    for kind in REMINDERS:
        due = InvoiceCollection.objects.filter(_due_q(kind, now), tenant=tenant)
        for collection in due.unpaid().not_being_paid(now).order_by("pk"):
            notify_reminder(collection, kind)
            sent += 1
    return sent


def invoices_to_remind_of(now: datetime) -> InvoiceCollectionQuerySet:
    """Return the unpaid invoices with a reminder due that are not being paid."""
    due = Q()
    for kind in REMINDERS:
        due |= _due_q(kind, now)
    return InvoiceCollection.objects.unpaid().not_being_paid(now).filter(due)


def _due_q(kind: str, now: datetime) -> Q:
    kinds = list(REMINDERS)
    is_last = kind == kinds[-1]
    next_begins = timedelta(0) if is_last else REMINDERS[kinds[kinds.index(kind) + 1]]
    reminded = Notice.objects.filter(
        tenant=OuterRef("tenant"), kind=kind, subject=OuterRef("pk")
    ).exclude(state=Notice.State.DROPPED)
    return Q(
        ~Exists(reminded),
        tenant__dunning_exempt=False,
        suspend_at__gt=now + next_begins,
        suspend_at__lte=now + REMINDERS[kind],
        # With a grace period no longer than this stage, the invoice notice is enough.
        finalized_at__lt=F("suspend_at") - REMINDERS[kind],
    )
