"""Deletions of suspended relays: what billing knows that keeps a relay."""

from datetime import datetime, timedelta

from billing.models import InvoiceCollection, StripeCursor, StripeEvent
from billing.services.dunning.payment_block import is_suspended
from billing.services.invoices.locks import has_pending_reduction, payment_blocker
from tenants.models import Tenant

#: Stripe may list an event a little late.
_LISTED_AFTER = timedelta(minutes=10)


def reason_to_keep_relays(tenant: Tenant, *, deletion_at: datetime) -> str:
    """Return why relays of a locked tenant cannot be deleted now, "" if they can.

    They are kept while a payment is under way, and until all payments that arrived at
    Stripe before the date are known.
    """
    events = StripeCursor.objects.filter(pk=StripeCursor.EVENTS)
    if not events.filter(read_until__gte=deletion_at + _LISTED_AFTER).exists():
        return "Stripe's events until that date have not been read."
    if _unprocessed_events(tenant):
        return "Events of its customer at Stripe are not processed."
    # Locked, so that a payment that has begun to be booked is seen.
    unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant)
    for invoice in unpaid.order_by("pk").select_for_update():
        if blocker := payment_blocker(invoice.pk):
            return blocker.reason
        if has_pending_reduction(invoice):
            return "An invoice is about to be reduced."
    # Last: a payment that was booked during the queries above has paid its invoice.
    return "" if is_suspended(tenant) else "Nothing is overdue."


def _unprocessed_events(tenant: Tenant) -> bool:
    waiting = StripeEvent.objects.exclude(status=StripeEvent.Status.PROCESSED)
    disputes = waiting.filter(type__startswith="charge.dispute.")
    disputed = InvoiceCollection.objects.disputed().filter(tenant=tenant)
    # A dispute that was won ends the debt, and its event names no customer.
    if disputed.exists() and disputes.exists():
        return True
    if not tenant.stripe_customer_id:
        return False
    return waiting.filter(body__contains=f'"{tenant.stripe_customer_id}"').exists()
