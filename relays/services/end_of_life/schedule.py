"""Dates in the row of a relay: set when billing suspends it, cleared when this ends."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from relays.models import Relay
from relays.services.end_of_life import notices
from relays.services.end_of_life.dates import Dates, Terms, first_dates

_DATES = ("export_offer_at", "export_offered_at", "deletion_at", "deletion_notice")
#: The columns that `follow_status` may change.
FIELDS = ("delinquent_since", *_DATES)


def follow_status(relay: Relay) -> None:
    """Set the dates of a relay that is now suspended; clear them if it is not.

    Without a debt there are none: a pause was begun by our support, and after a payment
    only a credit that has to be posted first keeps a relay off. Call it for a locked
    relay in the transaction that changes its status, and save FIELDS.
    """
    is_off = relay.status == Relay.Status.DELINQUENT
    if is_off and relay.delinquent_since is None:
        relay.delinquent_since = timezone.now()
        if relay.export_offer_at is None and relay.tenant.must_pay_first:
            set_dates(relay, first_dates(relay.delinquent_since, terms()))
    if not is_off:
        relay.delinquent_since = None
        clear_dates(relay)


def terms() -> Terms:
    return Terms(
        export_after=timedelta(days=settings.RELAY_EXPORT_DAYS),
        delete_after=timedelta(days=settings.RELAY_DELETE_DAYS),
        deletes=settings.RELAY_DELETION,
    )


def dates_of(relay: Relay) -> Dates:
    warning = relay.deletion_notice
    return Dates(
        export_offer_at=relay.export_offer_at,
        export_offered_at=relay.export_offered_at,
        deletion_at=relay.deletion_at,
        is_announced=warning is not None,
        told_at=notices.accepted_at(warning) if warning else None,
    )


def set_dates(relay: Relay, dates: Dates) -> None:
    """Set the dates, without saving; drop unsent notices of other dates."""
    if relay.export_offered_at and dates.export_offered_at != relay.export_offered_at:
        notices.drop_offer(relay)
    if relay.deletion_notice and not dates.is_announced:
        notices.drop(relay.deletion_notice)
        relay.deletion_notice = None
    relay.export_offer_at = dates.export_offer_at
    relay.export_offered_at = dates.export_offered_at
    relay.deletion_at = dates.deletion_at


def clear_dates(relay: Relay) -> None:
    """Clear the dates, without saving; drop unsent notices that name them."""
    set_dates(relay, Dates())


def save_dates(relay: Relay) -> None:
    """Store the dates: bookkeeping, which no receiver needs to see."""
    columns = {name: getattr(relay, name) for name in _DATES}
    Relay.objects.filter(pk=relay.pk).update(**columns)
