"""Reminders before an unpaid invoice switches relays off: of each stage one, once."""

from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.dunning.notices import tell_reminder
from tenants.models import Notice, Tenant

#: How long before `suspend_at` each stage begins. It ends where the next one begins:
#: who comes late to an invoice sends one reminder, not three.
STAGES = {
    "reminder_3": timedelta(days=3),
    "reminder_1": timedelta(days=1),
    "reminder_0": timedelta(hours=8),
}


def remind(tenant: Tenant) -> int:
    """Send a tenant, in the caller's transaction, the reminders that are due.

    Returns how many those are. Anybody who is exempt is not reminded.
    """
    sent = 0
    now = timezone.now()
    for kind in STAGES:
        unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant)
        for collection in unpaid.filter(_is_due(kind, now)).order_by("pk"):
            tell_reminder(collection, kind)
            sent += 1
    return sent


def due_reminders(now: datetime) -> InvoiceCollectionQuerySet:
    """Return the invoices that somebody is to be reminded of."""
    due = Q()
    for kind in STAGES:
        due |= _is_due(kind, now)
    return InvoiceCollection.objects.unpaid().filter(due)


def _is_due(kind: str, now: datetime) -> Q:
    stages = list(STAGES)
    is_last = kind == stages[-1]
    next_begins = timedelta(0) if is_last else STAGES[stages[stages.index(kind) + 1]]
    reminded = Notice.objects.filter(
        tenant=OuterRef("tenant"), kind=kind, subject=OuterRef("pk")
    ).exclude(state=Notice.State.DROPPED)
    return Q(
        ~Exists(reminded),
        tenant__dunning_exempt=False,
        suspend_at__gt=now + next_begins,
        suspend_at__lte=now + STAGES[kind],
        # The grace may be shorter than this stage: then the invoice says it all.
        finalized_at__lt=F("suspend_at") - STAGES[kind],
    )
