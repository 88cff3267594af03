"""Collect one invoice. Safe to call from anywhere, any number of times.

Webhooks, outcomes of attempts, operators and the sweep all call the same function. It
reads the invoice from Stripe and runs steps until the next one has to wait.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db.models import Q
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.models import CardAttempt, InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.collection import cards, settlements
from billing.services.collection.attempts import (
    CONTINUE,
    REREAD,
    Step,
    Wait,
    next_attempt_step,
)
from billing.services.collection.drafts import finalize_draft, wait_for_late_credit
from billing.services.collection.undecided import wait_for_sync
from billing.services.dunning import notices, suspension
from billing.services.invoices import locks
from billing.services.invoices.payer import paid_by, record_first_payment
from billing.services.invoices.records import read_invoice
from caravel.core.db.work_items import NO_FAILURE, failure_columns
from caravel.core.exceptions import CaravelError
from lightning.exceptions import PaymentInProgress

logger = structlog.get_logger(__name__)

State = InvoiceCollection.State
Status = InvoiceCollection.Status
#: More steps than any invoice takes in one run: a loop is a bug.
_MAX_STEPS = 20
_RECHECK_INTERVAL = timedelta(hours=6)
#: How long before the grace period ends to read the invoice again: the webhook of its
#: payment may have been lost.
_FINAL_CHECK_BEFORE_GRACE = timedelta(minutes=15)
#: Shortest wait, since Stripe's event about the outcome may arrive late.
_MIN_RECHECK_INTERVAL = timedelta(seconds=15)


def collect_enqueued(*, invoice_id: str) -> str:
    """Collect an invoice for which a message has arrived.

    Does nothing if another message was faster: when a queue is longer than
    ENQUEUED_TIMEOUT, the sweep sends each message again.
    """
    enqueued = Q(enqueued_at__isnull=False) | Q(next_attempt_at__lte=timezone.now())
    if not InvoiceCollection.objects.filter(enqueued, pk=invoice_id).exists():
        return "Collected since the message was sent"
    return collect_invoice(invoice_id=invoice_id)


def collect_invoice(*, invoice_id: str) -> str:
    """Run all steps that are possible now. Returns a log line.

    An expected failure is recorded on the collection and retried by the sweep; an
    unexpected one is recorded and raised.
    """
    rows = _with_tenant().filter(pk=invoice_id)
    # Before the invoice is read: `_if_not_requeued` notices a message sent since.
    rows.update(enqueued_at=None)
    collection = rows.get()
    with structlog.contextvars.bound_contextvars(
        tenant=collection.tenant_id, stripe_invoice=invoice_id
    ):
        try:
            return _run_steps(Stripe(), collection)
        except CaravelError as exc:
            _record_failure(collection, exc)
            return exc.message
        except Exception as exc:
            _record_failure(collection, exc)
            raise


def _with_tenant() -> InvoiceCollectionQuerySet:
    return InvoiceCollection.objects.select_related("tenant")


def _run_steps(stripe: Stripe, collection: InvoiceCollection) -> str:
    result: Step = REREAD
    for _ in range(_MAX_STEPS):
        if result is REREAD:
            # Never gone: https://docs.stripe.com/api/invoices/delete is for drafts that
            # belong to no subscription.
            invoice = read_invoice(stripe, collection.pk, collection.tenant)
        collection.refresh_from_db(from_queryset=_with_tenant())
        result = _run_first_applicable_step(stripe, collection, invoice)
        if isinstance(result, Wait):
            _record_wait(collection, result)
            # The invoice may have been paid, or become overdue.
            suspension.review_if_needed(tenant_id=collection.tenant_id)
            return result.reason
    raise AssertionError(f"{collection.pk} took more than {_MAX_STEPS} steps")


def _run_first_applicable_step(
    stripe: Stripe, collection: InvoiceCollection, invoice: Invoice
) -> Step:
    """Run the first step that applies, and return its result."""
    for step in _STEPS:
        if result := step(stripe, collection, invoice):
            return result
    return Wait(State.MANUAL, "Nothing to collect", timezone.now() + _RECHECK_INTERVAL)


def _finish_card(
    stripe: Stripe, collection: InvoiceCollection, invoice: Invoice
) -> Step:
    """Look up the outcome of a pending card charge."""
    attempt = CardAttempt.objects.pending().filter(collection=collection).first()
    if attempt is None:
        return None
    if (inquiry_at := cards.next_inquiry_at(attempt)) > timezone.now():
        return Wait(State.PENDING, "Waiting for the card charge", inquiry_at)
    cards.run_attempt(stripe, attempt)
    if attempt.state != CardAttempt.State.PENDING:
        return REREAD
    return _wait_for_bank("Waiting for the bank")


def _wait_for_bank(reason: str) -> Wait:
    recheck_at = timezone.now() + cards.PROCESSING_RECHECK_INTERVAL
    return Wait(State.PENDING, reason, recheck_at)


def _wait_for_card(reason: str) -> Wait:
    return Wait(State.PENDING, reason, timezone.now() + timedelta(minutes=1))


def _book(stripe: Stripe, collection: InvoiceCollection, invoice: Invoice) -> Step:
    """Book a Lightning payment that has arrived."""
    try:
        is_booked = settlements.book_next(stripe, collection, invoice)
    except PaymentInProgress as exc:
        if collection.is_bank_debited:
            return _wait_for_bank(exc.message)
        return _wait_for_card(exc.message)
    # It was recorded as Stripe has answered.
    return CONTINUE if is_booked else None


def _close(stripe: Stripe, collection: InvoiceCollection, invoice: Invoice) -> Step:
    if not collection.is_final:
        return None
    if locks.has_pending_charge(collection.pk):
        # Another worker has just started it: its outcome must still be recorded.
        return _wait_for_card("Waiting for the card charge")
    payer = InvoiceCollection.PaidBy.NOBODY
    if collection.stripe_status == Status.PAID:
        payer = paid_by(collection, amount_paid_cents=collection.amount_paid_cents)
        if payer != InvoiceCollection.PaidBy.CREDIT:
            record_first_payment(
                tenant_id=collection.tenant_id,
                amount_cents=collection.amount_paid_cents,
                currency=collection.currency,
            )
    InvoiceCollection.objects.filter(pk=collection.pk).update(
        paid_by=payer, next_action=InvoiceCollection.Action.NONE
    )
    if collection.dispute_debt_cents:
        recheck_at = timezone.now() + _RECHECK_INTERVAL
        return Wait(State.MANUAL, "Disputed: waiting for the customer", recheck_at)
    notices.drop_unpaid_notices(collection)
    # A closed one was paid before, perhaps before the tenant wanted such notices.
    if collection.state != State.CLOSED:
        notices.notify_paid(collection, payer)
    is_paid = collection.stripe_status == Status.PAID
    return Wait(State.CLOSED, str(payer.label) if is_paid else "Void", None)


def _wait_if_written_off(
    stripe: Stripe, collection: InvoiceCollection, invoice: Invoice
) -> Step:
    """Wait if the invoice is uncollectible: never charged, payable by hand if owed."""
    if collection.stripe_status != Status.UNCOLLECTIBLE:
        return None
    reason = "Marked uncollectible at Stripe"
    if collection.hold == InvoiceCollection.Hold.WRITTEN_OFF:
        reason = "Written off by Stripe while collection was paused: no debt"
        notices.drop_unpaid_notices(collection)
    return Wait(State.MANUAL, reason, timezone.now() + _RECHECK_INTERVAL)


def _attempt(stripe: Stripe, collection: InvoiceCollection, invoice: Invoice) -> Step:
    is_open = collection.stripe_status == Status.OPEN
    if not is_open or not collection.chargeable_cents:
        return None
    return next_attempt_step(stripe, collection)


_STEPS: tuple[Callable[[Stripe, InvoiceCollection, Invoice], Step], ...] = (
    _finish_card,
    _book,
    wait_for_late_credit,
    _close,
    wait_for_sync,
    finalize_draft,
    _wait_if_written_off,
    _attempt,
)


def _record_wait(collection: InvoiceCollection, wait: Wait) -> None:
    """Save the state, unless the row was requeued in the meantime.

    Then a message is on its way, another worker has it, or the sweep will send one.
    """
    now = timezone.now()
    until = wait.until or now + _RECHECK_INTERVAL
    until = _before_grace_ends(collection, until, now)
    _if_not_requeued(collection).update(
        **NO_FAILURE,
        state=wait.state,
        closed_at=now if wait.state == State.CLOSED else None,
        outcome=wait.reason[:200],
        next_attempt_at=max(until, now + _MIN_RECHECK_INTERVAL),
    )
    logger.info("collected", state=wait.state, outcome=wait.reason)


def _before_grace_ends(
    collection: InvoiceCollection, until: datetime, now: datetime
) -> datetime:
    """Return when to look again: `until`, or shortly before an unpaid invoice suspends.

    Once that moment has passed, `until` stands.
    """
    if not collection.is_unpaid or collection.suspend_at is None:
        return until
    final_check_at = collection.suspend_at - _FINAL_CHECK_BEFORE_GRACE
    if final_check_at <= now:
        return until
    return min(until, final_check_at)


def _record_failure(collection: InvoiceCollection, error: Exception) -> None:
    columns = failure_columns(error, failures=collection.failures, now=timezone.now())
    if locks.payment_blocker(collection.pk):
        columns["state"] = State.PENDING
        columns["closed_at"] = None
    _if_not_requeued(collection).update(**columns)
    logger.warning("collection_failed", error=str(error))


def _if_not_requeued(collection: InvoiceCollection) -> InvoiceCollectionQuerySet:
    """Return the row as a queryset, empty if it was requeued since it was read.

    Another worker may have taken that message already and cleared `enqueued_at`; then
    `next_attempt_at` differs.
    """
    return InvoiceCollection.objects.filter(
        pk=collection.pk, enqueued_at=None, next_attempt_at=collection.next_attempt_at
    )
