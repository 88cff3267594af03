"""Payment attempts for an open invoice: wallet, then card, then a notice.

An attempt starts when the invoice is finalized, after 1, 3 and 6 days, and whenever
there is something new to try: a wallet, a card, or an operator's click. A new card is
another one than was charged last: attached, made the default, or replaced in place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

import structlog
from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone

from billing.clients.stripe.client import Card, Stripe
from billing.exceptions import InvoiceChanged
from billing.models import CardAttempt, InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.collection import cards
from billing.services.collection.card_choice import (
    can_pay,
    choose_card,
    exclusion,
    last_attempt_with,
)
from billing.services.credits.posting import post_credits
from billing.services.dunning import notices
from billing.services.invoices import locks
from billing.services.invoices.records import enqueue_collection, payment_request_for
from caravel.core.exceptions import CaravelError
from lightning.exceptions import AlreadySettled, NoWallet, PaymentInProgress
from lightning.models import NwcPayment
from lightning.services.payments import (
    create_payment,
    issue_for_wallet,
    lock_for_wallet,
)

logger = structlog.get_logger(__name__)

State = InvoiceCollection.State
Action = InvoiceCollection.Action
#: When each attempt starts, from the moment the invoice was finalized.
ATTEMPT_SCHEDULE = tuple(timedelta(days=days) for days in (0, 1, 3, 6))
#: The pause before a rate-limited wallet is tried again, and how often at most.
_RATE_LIMIT_PAUSE = timedelta(seconds=60)
_MAX_RATE_LIMIT_RETRIES = 3
#: How long trouble on Caravel's side (no price, no own wallet) holds the card back.
_OWN_TROUBLE_TIMEOUT = timedelta(hours=1)
_RECHECK_INTERVAL = timedelta(hours=6)


@dataclass(frozen=True)
class Wait:
    """The result of a step after which nothing more can be done for now.

    `until` is when to look again, None if unknown.
    """

    state: InvoiceCollection.State
    reason: str
    until: datetime | None


class _Again(Enum):
    #: The invoice may have changed at Stripe: read it again.
    REREAD = auto()
    #: Only our own row has changed: go on with the invoice as read.
    CONTINUE = auto()


#: Results of a step after which the steps start again.
REREAD: Final = _Again.REREAD
CONTINUE: Final = _Again.CONTINUE
#: None if the step does not apply.
Step = Wait | _Again | None


def next_attempt_step(stripe: Stripe, collection: InvoiceCollection) -> Step:
    """Take the next step of the current attempt to collect an open invoice.

    Waits while another attempt is pending, or a person is paying at Stripe.
    """
    is_paying = locks.blocker_at_stripe(collection) is not None
    if is_paying or locks.has_pending_attempt(collection.pk):
        return _wait_for_pending_payment(collection)
    if locks.has_pending_reduction(collection):
        return _post_credits_first(collection)
    actions: dict[str, Callable[[Stripe, InvoiceCollection], Step]] = {
        Action.NONE: _wait_for_next_attempt,
        Action.WALLET: _pay_by_wallet,
        Action.CARD: _charge_card,
        Action.NOTICE: _notify_tenant,
    }
    return actions[collection.next_action](stripe, collection)


def start_attempt_for_tenant(*, tenant_id: str, first: InvoiceCollection.Action) -> int:
    """Start an extra attempt for each open invoice, with `first` as its first action.

    Pending payments are not interrupted. Returns the number of invoices.
    """
    with transaction.atomic():
        ids = list(_chargeable_invoices(tenant_id).values_list("pk", flat=True))
        for invoice_id in ids:
            _start_extra_attempt(invoice_id, first)
    return len(ids)


def start_attempt_with_card(*, tenant_id: str, card: Card) -> int:
    """Start an extra attempt for each open invoice that the card was not charged last.

    Several events may report one new card, the last of them after a hard decline. It
    starts none if it must not be charged: an attempt would charge another card, perhaps
    again. Returns the number of invoices.
    """
    if exclusion(tenant_id)(card):
        return 0
    started = 0
    with transaction.atomic():
        for collection in _chargeable_invoices(tenant_id):
            is_new = not cards.was_charged_last(collection, card)
            if is_new and can_pay(card, collection.currency):
                _start_extra_attempt(collection.pk, Action.CARD)
                started += 1
    return started


def collect_all(*, tenant_id: str) -> int:
    """Enqueue each open invoice of a tenant: it may now be charged to a saved card.

    A card that was refused waits for the next attempt. Returns the number of invoices.
    """
    with transaction.atomic():
        ids = list(_chargeable_invoices(tenant_id).values_list("pk", flat=True))
        for invoice_id in ids:
            enqueue_collection(invoice_id=invoice_id)
    return len(ids)


def collect_now(*, invoice_id: str) -> bool:
    """Start an attempt now, on an operator's request.

    An invoice that is not open is only read again; returns False for it. A message is
    sent even if one is on its way: perhaps it is lost, and the operator clicks again.
    """
    with transaction.atomic():
        if InvoiceCollection.objects.chargeable().filter(pk=invoice_id).exists():
            _start_extra_attempt(invoice_id, Action.WALLET, force=True)
            return True
        enqueue_collection(invoice_id=invoice_id, force=True)
    return False


def next_attempt_at(collection: InvoiceCollection) -> datetime | None:
    """Return when the next scheduled attempt starts, None if none will."""
    is_open = collection.stripe_status == InvoiceCollection.Status.OPEN
    if not is_open or not collection.is_unpaid:
        return None
    if collection.attempts_started >= len(ATTEMPT_SCHEDULE):
        return None
    return _scheduled_at(collection, collection.attempts_started)


def _chargeable_invoices(tenant_id: str) -> InvoiceCollectionQuerySet:
    """Return a tenant's invoices to which an attempt can be added, in lock order."""
    rows = InvoiceCollection.objects.working().filter(tenant_id=tenant_id)
    return rows.chargeable().order_by("pk")


def _start_extra_attempt(
    invoice_id: str, first: InvoiceCollection.Action, *, force: bool = False
) -> None:
    collection = locks.lock_collection(invoice_id)
    order = [Action.WALLET, Action.CARD, Action.NOTICE, Action.NONE]
    # An attempt that is still at an earlier action will reach this one.
    earlier = min(first, Action(collection.next_action), key=order.index)
    _update(
        collection,
        next_action=earlier,
        attempt_started_at=timezone.now(),
        rate_limits=0,
    )
    enqueue_collection(invoice_id=invoice_id, force=force)


def _post_credits_first(collection: InvoiceCollection) -> Step:
    """Reduce the invoice before it is charged, if the sync has not done it yet."""
    post_credits(tenant_id=collection.tenant_id)
    owed = locks.pending_reductions(collection)
    if until := owed.aggregate(until=Max("next_attempt_at"))["until"]:
        return Wait(State.COLLECTING, "Waiting for a credit to be posted", until)
    if locks.has_pending_reduction(collection):
        soon = timezone.now() + timedelta(minutes=1)
        reason = "Waiting for the subscription's cancellation to complete"
        return Wait(State.COLLECTING, reason, soon)
    return REREAD


def _wait_for_next_attempt(stripe: Stripe, collection: InvoiceCollection) -> Step:
    now = timezone.now()
    # The first attempt is due at once, even if Stripe's clock is ahead.
    due = 1 + sum(
        _scheduled_at(collection, number) <= now
        for number in range(1, len(ATTEMPT_SCHEDULE))
    )
    if due > collection.attempts_started:
        # Attempts missed during downtime are skipped, not repeated.
        return _go_to_action(
            collection,
            Action.WALLET,
            attempts_started=due,
            attempt_started_at=now,
            rate_limits=0,
        )
    until = now + _RECHECK_INTERVAL
    if blocker := locks.payment_blocker(collection.pk):
        return Wait(State.PENDING, blocker.reason, min(blocker.until or until, until))
    if _has_new_card(stripe, collection):
        # Its event was lost, or has not arrived yet.
        return _go_to_action(
            collection, Action.CARD, attempt_started_at=now, rate_limits=0
        )
    if collection.attempts_started < len(ATTEMPT_SCHEDULE):
        until = min(until, _scheduled_at(collection, collection.attempts_started))
    reason = "Waiting for the customer or the next attempt"
    return Wait(State.MANUAL, reason, until)


def _has_new_card(stripe: Stripe, collection: InvoiceCollection) -> bool:
    if collection.tenant.autopay_paused:
        return False
    card = choose_card(stripe, collection)
    return card is not None and last_attempt_with(collection, card) is None


def _scheduled_at(collection: InvoiceCollection, number: int) -> datetime:
    return (collection.finalized_at or collection.created_at) + ATTEMPT_SCHEDULE[number]


def _pay_by_wallet(stripe: Stripe, collection: InvoiceCollection) -> Step:
    tenant = collection.tenant
    if not tenant.nwc_url or tenant.autopay_paused:
        return _go_to_action(collection, Action.CARD)
    if waiting := _wait_for_pending_payment(collection):
        return waiting
    try:
        _start_wallet_payment(collection)
    except InvoiceChanged:
        return REREAD
    except (PaymentInProgress, AlreadySettled) as exc:
        return Wait(State.PENDING, exc.message, getattr(exc, "until", None))
    except NoWallet:
        return _go_to_action(collection, Action.CARD)
    except CaravelError as exc:
        # Raised at first, so that the sweep retries this step.
        started_at = collection.attempt_started_at or timezone.now()
        if timezone.now() - started_at < _OWN_TROUBLE_TIMEOUT:
            raise
        logger.error("wallet_passed_over", error=str(exc))
        return _go_to_action(collection, Action.CARD)
    return Wait(State.PENDING, "Waiting for the tenant's wallet", None)


def _start_wallet_payment(collection: InvoiceCollection) -> None:
    """Issue a Lightning invoice and record the attempt of the tenant's wallet.

    Raises InvoiceChanged, PaymentInProgress, AlreadySettled, NoWallet, or the error
    that keeps Caravel's own wallet from issuing.
    """
    payment_request = payment_request_for(collection)
    # Outside the transaction, since our own wallet may take seconds to answer.
    issued = issue_for_wallet(payment_request=payment_request)
    with transaction.atomic():
        # Lock order: the Lightning invoices, then the collection.
        lock_for_wallet(payment_request=payment_request)
        locked = locks.lock_if_no_other_method(collection.pk)
        locks.require_unchanged(locked, collection)
        locks.require_same_step(locked, collection)
        # With the attempt: after a crash the next run must not try the wallet again.
        _update(locked, next_action=Action.CARD)
        create_payment(issued)


def _charge_card(stripe: Stripe, collection: InvoiceCollection) -> Step:
    if waiting := _retry_rate_limited_wallet(collection):
        return waiting
    if collection.tenant.autopay_paused:
        return _go_to_action(collection, Action.NOTICE)
    card = choose_card(stripe, collection)
    if card is None:
        return _go_to_action(collection, Action.NOTICE)
    if waiting := _wait_for_pending_payment(collection):
        return waiting
    try:
        attempt = cards.start_attempt(collection, card, then=Action.NOTICE)
    except InvoiceChanged:
        return REREAD
    except PaymentInProgress as exc:
        return Wait(State.PENDING, exc.message, exc.until)
    cards.run_attempt(stripe, attempt)
    return REREAD


def _notify_tenant(stripe: Stripe, collection: InvoiceCollection) -> Step:
    """Ask the tenant to pay: neither wallet nor card could be charged."""
    # Only those of this attempt: an earlier refusal has had its notice.
    refused = collection.card_attempts.exclude(state=CardAttempt.State.PAID)
    if refused.filter(created_at__gte=collection.attempt_started_at).exists():
        notices.notify_payment_failed(collection)
    else:
        notices.notify_invoice_due(collection)
    return _go_to_action(collection, Action.NONE)


def _retry_rate_limited_wallet(collection: InvoiceCollection) -> Step:
    """Go back to a wallet that answered RATE_LIMITED, up to three times."""
    last = NwcPayment.objects.filter(stripe_invoice_id=collection.pk).first()
    started_at = collection.attempt_started_at
    if last is None or started_at is None or last.created_at < started_at:
        return None
    is_limited = last.state == NwcPayment.State.REFUSED and last.code == "RATE_LIMITED"
    if not is_limited or collection.rate_limits >= _MAX_RATE_LIMIT_RETRIES:
        return None
    refused_at = last.refused_at or last.resolved_at or last.created_at
    retry_at = refused_at + _RATE_LIMIT_PAUSE
    if retry_at > timezone.now():
        reason = "Waiting: the wallet has had too many requests"
        return Wait(State.COLLECTING, reason, retry_at)
    return _go_to_action(collection, Action.WALLET, rate_limits=F("rate_limits") + 1)


def _wait_for_pending_payment(collection: InvoiceCollection) -> Wait | None:
    """Wait while something else may still pay, such as a presented bolt11.

    No other bolt11 is presented meanwhile, so that one delays each attempt only once.
    """
    blocker = locks.payment_blocker(collection.pk)
    return Wait(State.PENDING, blocker.reason, blocker.until) if blocker else None


def _go_to_action(
    collection: InvoiceCollection, action: InvoiceCollection.Action, **columns: object
) -> Step:
    """Go to the next action, unless another worker has gone on since the last read."""
    rows = InvoiceCollection.objects.filter(
        pk=collection.pk,
        next_action=collection.next_action,
        attempt_started_at=collection.attempt_started_at,
    )
    rows.update(next_action=action, **columns)
    return CONTINUE


def _update(collection: InvoiceCollection, **columns: object) -> None:
    InvoiceCollection.objects.filter(pk=collection.pk).update(**columns)
