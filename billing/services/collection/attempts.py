"""The ladder of attempts at an open invoice: wallet, else card, else a notice.

A rung begins when the invoice is finalized, after 1, 3 and 6 days, and whenever there
is something new to try: a wallet, a card, or somebody who pressed the button.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import InvoiceChanged
from billing.models import CardAttempt, Credit, InvoiceCollection
from billing.services.collection import cards
from billing.services.collection.steps import REREAD, Step, Wait
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
#: When each rung begins, from the moment that the invoice was finalized.
ATTEMPT_SCHEDULE = tuple(timedelta(days=days) for days in (0, 1, 3, 6))
#: How long a wallet that is too busy is left alone, and how often.
_RATE_LIMIT_PAUSE = timedelta(seconds=60)
_MAX_RATE_LIMIT_RETRIES = 3
#: How long trouble of our own, no price or no wallet, keeps the card from its turn.
_OWN_TROUBLE_TIMEOUT = timedelta(hours=1)
_RECHECK_INTERVAL = timedelta(hours=6)


def next_attempt_step(stripe: Stripe, collection: InvoiceCollection) -> Step:
    """Take the next step of the ladder at an open invoice.

    Whatever comes next, comes when the attempt under way has ended.
    """
    if locks.has_pending_attempt(collection.pk):
        return _wait_for_pending_payment(collection)
    if locks.has_pending_reduction(collection):
        return _post_credits_first(collection)
    rails: dict[str, Callable[[Stripe, InvoiceCollection], Step]] = {
        Action.NONE: _wait_for_next_attempt,
        Action.WALLET: _pay_by_wallet,
        Action.CARD: _charge_card,
        Action.NOTICE: _notify_tenant,
    }
    return rails[collection.next_action](stripe, collection)


def start_attempt_for_tenant(*, tenant_id: str, rail: InvoiceCollection.Action) -> int:
    """Have all open invoices of a tenant collected by a rail that is new.

    What is under way goes on; this comes next. Returns how many there are.
    """
    with transaction.atomic():
        rows = InvoiceCollection.objects.working().filter(tenant_id=tenant_id)
        ids = list(rows.unpaid().order_by("pk").values_list("pk", flat=True))
        for invoice_id in ids:
            _start_extra_attempt(invoice_id, rail)
    return len(ids)


def collect_now(*, invoice_id: str) -> bool:
    """Begin another rung at once, on a person's wish; False if there is none to begin.

    Only looks again at what is no open invoice.
    """
    with transaction.atomic():
        open_ones = InvoiceCollection.objects.unpaid()
        if open_ones.filter(pk=invoice_id).exists():
            _start_extra_attempt(invoice_id, Action.WALLET)
            return True
        enqueue_collection(invoice_id=invoice_id)
    return False


def _start_extra_attempt(invoice_id: str, rail: InvoiceCollection.Action) -> None:
    collection = locks.lock_collection(invoice_id)
    order = [Action.WALLET, Action.CARD, Action.NOTICE, Action.NONE]
    # A rung that is before this rail will come to it.
    earlier = min(rail, Action(collection.next_action), key=order.index)
    _columns(
        collection,
        next_action=earlier,
        attempt_started_at=timezone.now(),
        rate_limits=0,
    )
    enqueue_collection(invoice_id=invoice_id)


def _post_credits_first(collection: InvoiceCollection) -> Step:
    """Reduce the invoice before anybody is charged for it, if the sync has not yet."""
    post_credits(tenant_id=collection.tenant_id)
    owed = collection.credits.filter(state=Credit.State.OWED)
    if until := owed.aggregate(until=Max("next_attempt_at"))["until"]:
        return Wait(State.COLLECTING, "a credit is to be posted first", until)
    if locks.has_pending_reduction(collection):
        soon = timezone.now() + timedelta(minutes=1)
        return Wait(State.COLLECTING, "its subscription's end is to be settled", soon)
    return REREAD


def _wait_for_next_attempt(stripe: Stripe, collection: InvoiceCollection) -> Step:
    now = timezone.now()
    # The first begins with the invoice, even if Stripe's clock is ahead of ours.
    begun = 1 + sum(
        _rung_at(collection, rung) <= now for rung in range(1, len(ATTEMPT_SCHEDULE))
    )
    if begun > collection.attempts_started:
        # Rungs that nobody was there to begin are not made up for.
        return _go_to_action(
            collection,
            Action.WALLET,
            attempts_started=begun,
            attempt_started_at=now,
            rate_limits=0,
        )
    payment_blocker = locks.payment_blocker(collection.pk)
    if payment_blocker:
        return Wait(
            State.PENDING,
            payment_blocker.why,
            _soonest(payment_blocker.until, now + _RECHECK_INTERVAL),
        )
    until = now + _RECHECK_INTERVAL
    if collection.attempts_started < len(ATTEMPT_SCHEDULE):
        until = min(until, _rung_at(collection, collection.attempts_started))
    return Wait(State.MANUAL, "waits for a person, or the next try", until)


def next_attempt_at(collection: InvoiceCollection) -> datetime | None:
    """Return when wallet and card have their next turn, None if they have none."""
    is_asking = collection.stripe_status == InvoiceCollection.Status.OPEN
    if not is_asking or not collection.is_unpaid:
        return None
    if collection.attempts_started >= len(ATTEMPT_SCHEDULE):
        return None
    return _rung_at(collection, collection.attempts_started)


def _rung_at(collection: InvoiceCollection, rung: int) -> datetime:
    return (collection.finalized_at or collection.created_at) + ATTEMPT_SCHEDULE[rung]


def _pay_by_wallet(stripe: Stripe, collection: InvoiceCollection) -> Step:
    if not _has_wallet(collection):
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
        begun_at = collection.attempt_started_at or timezone.now()
        if timezone.now() - begun_at < _OWN_TROUBLE_TIMEOUT:
            raise
        logger.error("wallet_passed_over", error=str(exc))
        return _go_to_action(collection, Action.CARD)
    return Wait(State.PENDING, "the tenant's wallet has been asked", None)


def _start_wallet_payment(collection: InvoiceCollection) -> None:
    payment_request = payment_request_for(collection)
    issued = issue_for_wallet(payment_request=payment_request)
    with transaction.atomic():
        lock_for_wallet(payment_request=payment_request)
        locked = locks.lock_if_no_other_method(collection.pk)
        locks.require_unchanged(locked, collection)
        locks.require_same_step(locked, collection)
        _columns(locked, next_action=Action.CARD)
        create_payment(issued)


def _charge_card(stripe: Stripe, collection: InvoiceCollection) -> Step:
    if waiting := _retry_rate_limited_wallet(collection):
        return waiting
    if collection.tenant.autopay_paused:
        return _go_to_action(collection, Action.NOTICE)
    card = cards.choose_card(stripe, collection)
    if not card:
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
    """Nothing could be charged in this rung: tell the tenant what is to be paid."""
    refused = collection.card_attempts.exclude(state=CardAttempt.State.PAID)
    if refused.filter(created_at__gte=collection.attempt_started_at).exists():
        notices.notify_payment_failed(collection)
    else:
        notices.notify_invoice_due(collection)
    return _go_to_action(collection, Action.NONE)


def _retry_rate_limited_wallet(collection: InvoiceCollection) -> Step:
    """A wallet that has had too many requests is asked again, a few times."""
    last = NwcPayment.objects.filter(stripe_invoice_id=collection.pk).first()
    began = collection.attempt_started_at
    if last is None or began is None or last.created_at < began:
        return None
    is_busy = last.state == NwcPayment.State.REFUSED and last.code == "RATE_LIMITED"
    if not is_busy or collection.rate_limits >= _MAX_RATE_LIMIT_RETRIES:
        return None
    again_at = (last.resolved_at or last.created_at) + _RATE_LIMIT_PAUSE
    if again_at > timezone.now():
        return Wait(State.COLLECTING, "the wallet asked us to wait", again_at)
    return _go_to_action(collection, Action.WALLET, rate_limits=F("rate_limits") + 1)


def _wait_for_pending_payment(collection: InvoiceCollection) -> Wait | None:
    """Return how long something else may still pay; a person was shown a bolt11, say.

    Nobody is shown another one meanwhile, so that this happens once.
    """
    found = locks.payment_blocker(collection.pk)
    return Wait(State.PENDING, found.why, found.until) if found else None


def _has_wallet(collection: InvoiceCollection) -> bool:
    tenant = collection.tenant
    return bool(tenant.nwc_url) and not tenant.autopay_paused


def _go_to_action(
    collection: InvoiceCollection, rail: InvoiceCollection.Action, **columns: object
) -> Step:
    """Go on to the next rail, unless somebody else has moved on already."""
    rows = InvoiceCollection.objects.filter(
        pk=collection.pk,
        next_action=collection.next_action,
        attempt_started_at=collection.attempt_started_at,
    )
    rows.update(next_action=rail, **columns)
    return REREAD


def _soonest(first: datetime | None, second: datetime) -> datetime:
    return min(first, second) if first else second


def _columns(collection: InvoiceCollection, **columns: object) -> None:
    InvoiceCollection.objects.filter(pk=collection.pk).update(**columns)
