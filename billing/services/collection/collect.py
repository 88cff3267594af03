"""Collecting an invoice: whoever asks, the next right step is taken.

Webhooks, the outcomes of attempts, people and the sweep all call the same function. It
reads the invoice again, looks at what is under way, and takes one step after the other
until there is nothing to do but wait.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.models import CardAttempt, InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.collection import cards, settlements
from billing.services.collection.attempts import next_attempt_step
from billing.services.collection.steps import REREAD, Step, Wait
from billing.services.credits.posting import post_credits
from billing.services.dunning import notices, review
from billing.services.invoices import locks
from billing.services.invoices.payer import paid_by
from billing.services.invoices.records import read_invoice
from caravel.core.db.work_items import NO_FAILURE, failure_columns
from caravel.core.exceptions import CaravelError
from lightning.exceptions import PaymentInProgress

logger = structlog.get_logger(__name__)

State = InvoiceCollection.State
Status = InvoiceCollection.Status
#: More steps than any invoice takes at once.
_MOST_STEPS = 20
#: How long Stripe has for a renewal's draft before we finalize it.
_DRAFT_FOR = timedelta(hours=2)
#: Drafts that Stripe would keep for an hour though nothing is to be added to them.
_AT_ONCE = {"subscription_create", "subscription_update"}
#: How often an invoice is read again though nothing asks for it.
_LOOK_AGAIN = timedelta(hours=6)
#: And how long before it would switch relays off, if a webhook of its payment is lost.
_LAST_LOOK = timedelta(minutes=15)


def collect_invoice(*, invoice_id: str) -> str:
    """Take every step that can be taken now; returns in words what came of it.

    Any number of calls at once are as good as one. An expected failure is recorded on
    the collection and retried by the sweep; an unexpected one is recorded and raised.
    """
    rows = InvoiceCollection.objects.filter(pk=invoice_id)
    rows.update(enqueued_at=None)
    collection = rows.get()
    with structlog.contextvars.bound_contextvars(
        tenant=collection.tenant_id, stripe_invoice=invoice_id
    ):
        try:
            return _take_steps(Stripe(), collection)
        except CaravelError as exc:
            _record_failure(collection, exc)
            return exc.message
        except Exception as exc:
            _record_failure(collection, exc)
            raise


def _take_steps(stripe: Stripe, collection: InvoiceCollection) -> str:
    for _ in range(_MOST_STEPS):
        found = _read(stripe, collection)
        collection.refresh_from_db()
        rest = _next(stripe, collection, found)
        if rest is not None:
            _wait(collection, rest)
            review.review_tenant(tenant_id=collection.tenant_id)
            return rest.why
    raise AssertionError(f"{collection.pk} goes round in circles")


def _next(stripe: Stripe, collection: InvoiceCollection, found: Invoice) -> Wait | None:
    """Take the first step that applies; returns None to have the invoice read again."""
    for step in _STEPS:
        done = step(stripe, collection, found)
        if done is REREAD:
            return None
        if isinstance(done, Wait):
            return done
    return Wait(State.MANUAL, "nothing to collect", timezone.now() + _LOOK_AGAIN)


def _read(stripe: Stripe, collection: InvoiceCollection) -> Invoice:
    """Read the invoice again and keep what it says; it is never deleted.

    https://docs.stripe.com/api/invoices/delete: those of subscriptions can't be.
    """
    return read_invoice(stripe, collection.pk, collection.tenant)


def _finish_card(stripe: Stripe, collection: InvoiceCollection, found: Invoice) -> Step:
    """Find out what came of a charge that has no outcome yet."""
    attempt = CardAttempt.objects.pending().filter(collection=collection).first()
    if attempt is None:
        return None
    if (ready_at := cards.next_inquiry_at(attempt)) > timezone.now():
        return Wait(State.PENDING, "the card's answer is awaited", ready_at)
    cards.run_attempt(stripe, attempt)
    if attempt.state != CardAttempt.State.PENDING:
        return REREAD
    return Wait(
        State.PENDING, "the bank is working on it", timezone.now() + cards.PROCESSING
    )


def _await_card(why: str) -> Wait:
    return Wait(State.PENDING, why, timezone.now() + timedelta(minutes=1))


def _book(stripe: Stripe, collection: InvoiceCollection, found: Invoice) -> Step:
    """Book a Lightning payment that has arrived."""
    try:
        booked = settlements.book_next(stripe, collection, found)
    except PaymentInProgress as exc:
        return _await_card(exc.message)
    return REREAD if booked else None


def _close(stripe: Stripe, collection: InvoiceCollection, found: Invoice) -> Step:
    if not collection.is_final:
        return None
    if locks.has_pending_charge(collection.pk):
        # Another worker has just asked: what came of it is not to be forgotten.
        return _await_card("the card's answer is awaited")
    paid_by = _paid_by(collection)
    InvoiceCollection.objects.filter(pk=collection.pk).update(
        paid_by=paid_by, next_action=InvoiceCollection.Action.NONE
    )
    notices.drop_unpaid_notices(collection)
    how = InvoiceCollection.PaidBy(paid_by).label
    why = (
        f"paid by {how}"
        if collection.stripe_status == Status.PAID
        else collection.stripe_status
    )
    return Wait(State.CLOSED, why, None)


def _finalize(stripe: Stripe, collection: InvoiceCollection, found: Invoice) -> Step:
    """Finalize a draft in time, credit first so that it counts."""
    if found.status != Status.DRAFT:
        return None
    due_at = collection.created_at + _DRAFT_FOR
    if found.billing_reason not in _AT_ONCE and timezone.now() < due_at:
        return Wait(State.DRAFT, "left to Stripe to finalize", due_at)
    post_credits(tenant_id=collection.tenant_id)
    stripe.finalize_invoice(collection.pk)
    return REREAD


def _leave_written_off(
    stripe: Stripe, collection: InvoiceCollection, found: Invoice
) -> Step:
    """A person wrote it off: it may be paid, but nobody is charged for it."""
    if collection.stripe_status != Status.UNCOLLECTIBLE:
        return None
    return Wait(State.MANUAL, "written off at Stripe", timezone.now() + _LOOK_AGAIN)


def _climb(stripe: Stripe, collection: InvoiceCollection, found: Invoice) -> Step:
    """Go on with the ladder of attempts."""
    if (
        collection.stripe_status != Status.OPEN
        or collection.amount_remaining_cents <= 0
    ):
        return None
    return next_attempt_step(stripe, collection)


_STEPS: tuple[Callable[[Stripe, InvoiceCollection, Invoice], Step], ...] = (
    _finish_card,
    _book,
    _close,
    _finalize,
    _leave_written_off,
    _climb,
)


def _paid_by(collection: InvoiceCollection) -> InvoiceCollection.PaidBy:
    if collection.stripe_status != Status.PAID:
        return InvoiceCollection.PaidBy.NOBODY
    return paid_by(collection, amount_paid_cents=collection.amount_paid_cents)


def _wait(collection: InvoiceCollection, rest: Wait) -> None:
    """Record the present state, unless somebody has asked for another look meanwhile.

    Then a message is on its way, another worker has come, or the sweep will send one.
    """
    now = timezone.now()
    _unasked(collection).update(
        **NO_FAILURE,
        state=rest.state,
        closed_at=now if rest.state == State.CLOSED else None,
        outcome=rest.why[:200],
        next_attempt_at=_later(_in_time(collection, rest.until, now), now),
    )
    logger.info("collected", state=rest.state, outcome=rest.why)


def _in_time(
    collection: InvoiceCollection, until: datetime | None, now: datetime
) -> datetime | None:
    """Return when to look again, if need be sooner: shortly before the grace ends."""
    if not collection.is_unpaid or collection.suspend_at is None:
        return until
    last_look = collection.suspend_at - _LAST_LOOK
    return min(until or last_look, last_look) if last_look > now else until


def _later(until: datetime | None, now: datetime) -> datetime:
    """Return when to look again; what is awaited may be late."""
    return max(until or now + _LOOK_AGAIN, now + timedelta(seconds=15))


def _record_failure(collection: InvoiceCollection, error: Exception) -> None:
    columns = failure_columns(error, failures=collection.failures, now=timezone.now())
    if locks.payment_blocker(collection.pk):
        columns["state"] = State.PENDING
        columns["closed_at"] = None
    _unasked(collection).update(**columns)
    logger.warning("collection_failed", error=str(error))


def _unasked(collection: InvoiceCollection) -> InvoiceCollectionQuerySet:
    """Return the row, if nobody has asked for a look at it since it was read.

    Another worker may have taken that message already: the time tells.
    """
    return InvoiceCollection.objects.filter(
        pk=collection.pk, enqueued_at=None, next_attempt_at=collection.next_attempt_at
    )
