"""Review of suspended relays: offers, warnings and deletions whose time has come."""

from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q
from django.dispatch import Signal

from caravel.core.alerts import alert_support
from relays.exceptions import UnknownRelay
from relays.models import Relay
from relays.services.end_of_life import notices, schedule
from relays.services.end_of_life.dates import Step, next_step
from relays.services.lifecycle import delete_relay
from relays.services.locks import lock_relay

logger = structlog.get_logger(__name__)

#: Sent in the transaction that is about to delete a locked `relay`, with the date that
#: was announced (`deletion_at`). A receiver returns why the relay has to stay, or "".
deletion_due = Signal()
#: Relays per tick of beat; the next tick takes the rest.
_MAX_RELAYS = 5_000


def due_relays(*, now: datetime) -> list[UUID]:
    """Return suspended relays for which a review would do something."""
    found = Relay.objects.delinquent().filter(_due_q(now))
    longest_due = found.order_by("deletion_at", "pk")
    return list(longest_due.values_list("pk", flat=True)[:_MAX_RELAYS])


def review_relay(*, relay_id: UUID, now: datetime) -> Step:
    """Do what is due for one relay. Returns WAIT if nothing is, also if it runs again.

    The lock of the tenant comes first: a payment that is booked before the deletion
    has it keeps the relay.
    """
    with transaction.atomic():
        try:
            relay = lock_relay(relay_id)
        except UnknownRelay:
            return Step.WAIT
        if relay.status != Relay.Status.DELINQUENT:
            return Step.WAIT
        step = _review(relay, now)
    if step != Step.WAIT:
        logger.info("suspended_relay_reviewed", relay=str(relay_id), step=step.name)
    return step


def _review(relay: Relay, now: datetime) -> Step:
    if not relay.tenant.must_pay_first:
        schedule.clear_dates(relay)
        schedule.save_dates(relay)
        return Step.WAIT
    before = schedule.dates_of(relay)
    step, dates = next_step(before, now, schedule.terms())
    if step == Step.DELETE:
        return _delete(relay)
    schedule.set_dates(relay, dates)
    if step == Step.OFFER_EXPORT:
        notices.offer_export(relay)
    if step == Step.ANNOUNCE_DELETION:
        relay.deletion_notice = notices.warn_of_deletion(relay)
    if step == Step.POSTPONE and not before.told_at:
        _alert_untold(relay)
    schedule.save_dates(relay)
    return step


def _delete(relay: Relay) -> Step:
    if reason := _reason_to_keep(relay):
        logger.info("deletion_waits", relay=str(relay.pk), reason=reason)
        return Step.WAIT
    notices.report_deletion(relay)
    delete_relay(relay_id=relay.pk)
    return Step.DELETE


def _reason_to_keep(relay: Relay) -> str:
    if relay.exports.unfinished().exists():
        return "Its events are being exported."
    # Not `send_robust`: an error of a receiver must keep the relay.
    answers = deletion_due.send(Relay, relay=relay, deletion_at=relay.deletion_at)
    return next((reason for _, reason in answers if reason), "")


def _alert_untold(relay: Relay) -> None:
    alert_support(
        "deletion_not_announced",
        "No channel accepted the warning that this relay would be deleted, so that it "
        "stays, and gets another date. The notice says which channels were tried.",
        relay=relay.pk,
        tenant=relay.tenant_id,
    )


def _due_q(now: datetime) -> Q:
    """Return `next_step` as a filter on relays: those for which it is not WAIT."""
    terms = schedule.terms()
    indebted = Q(
        tenant__payment_overdue_since__isnull=False, tenant__dunning_exempt=False
    )
    dated = Q(export_offer_at__isnull=False)
    due = ~dated | Q(export_offered_at=None, export_offer_at__lte=now)
    if terms.deletes:
        unannounced = Q(deletion_notice=None, deletion_at__lte=now + terms.warning)
        due |= Q(deletion_at=None) | unannounced | Q(deletion_at__lte=now)
    else:
        due |= Q(deletion_at__isnull=False)
    return (~indebted & dated) | (indebted & due)
