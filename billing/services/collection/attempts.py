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
from billing.services.collection.steps import AGAIN, Rest, Step
from billing.services.credits.posting import post_credits
from billing.services.dunning import notices
from billing.services.invoices import locks
from billing.services.invoices.records import bill_of, wake
from caravel.core.exceptions import CaravelError
from lightning.exceptions import AlreadySettled, NoWallet, PaymentInProgress
from lightning.models import NwcPayment
from lightning.services.payments import start_payment

logger = structlog.get_logger(__name__)

State = InvoiceCollection.State
Rail = InvoiceCollection.Rail
#: When each rung begins, from the moment that the invoice was finalized.
RUNGS = tuple(timedelta(days=days) for days in (0, 1, 3, 6))
#: How long a wallet that is too busy is left alone, and how often.
_BUSY_PAUSE = timedelta(seconds=60)
_MOST_BUSY = 3
#: How long trouble of our own, no price or no wallet, keeps the card from its turn.
_PATIENCE = timedelta(hours=1)
_DAILY = timedelta(hours=6)


def climb(stripe: Stripe, collection: InvoiceCollection) -> Step:
    """Take the next step of the ladder at an open invoice.

    Whatever comes next, comes when the attempt under way has ended.
    """
    if locks.is_attempted(collection.pk):
        return _wait_for_others(collection)
    if locks.is_to_be_reduced(collection):
        return _await_reduction(collection)
    rails: dict[str, Callable[[Stripe, InvoiceCollection], Step]] = {
        Rail.NONE: _between_rungs,
        Rail.WALLET: _by_wallet,
        Rail.CARD: _by_card,
        Rail.NOTICE: _by_notice,
    }
    return rails[collection.next_rail](stripe, collection)


def try_rail(*, tenant_id: str, rail: InvoiceCollection.Rail) -> int:
    """Have all open invoices of a tenant collected by a rail that is new.

    What is under way goes on; this comes next. Returns how many there are.
    """
    with transaction.atomic():
        rows = InvoiceCollection.objects.working().filter(tenant_id=tenant_id)
        ids = list(rows.unpaid().order_by("pk").values_list("pk", flat=True))
        for invoice_id in ids:
            _begin_extra(invoice_id, rail)
    return len(ids)


def collect_now(*, invoice_id: str) -> bool:
    """Begin another rung at once, on a person's wish; False if there is none to begin.

    Only looks again at what is no open invoice.
    """
    with transaction.atomic():
        open_ones = InvoiceCollection.objects.unpaid()
        if open_ones.filter(pk=invoice_id).exists():
            _begin_extra(invoice_id, Rail.WALLET)
            return True
        wake(invoice_id=invoice_id)
    return False


def _begin_extra(invoice_id: str, rail: InvoiceCollection.Rail) -> None:
    collection = locks.lock(invoice_id)
    order = [Rail.WALLET, Rail.CARD, Rail.NOTICE, Rail.NONE]
    # A rung that is before this rail will come to it.
    earlier = min(rail, Rail(collection.next_rail), key=order.index)
    _columns(collection, next_rail=earlier, rung_begun_at=timezone.now(), rate_limits=0)
    wake(invoice_id=invoice_id)


def _await_reduction(collection: InvoiceCollection) -> Step:
    """Reduce the invoice before anybody is charged for it, if the sync has not yet."""
    post_credits(tenant_id=collection.tenant_id)
    owed = collection.credits.filter(state=Credit.State.OWED)
    if until := owed.aggregate(until=Max("next_attempt_at"))["until"]:
        return Rest(State.COLLECTING, "a credit is to be posted first", until)
    if locks.is_to_be_reduced(collection):
        soon = timezone.now() + timedelta(minutes=1)
        return Rest(State.COLLECTING, "its subscription's end is to be settled", soon)
    return AGAIN


def _between_rungs(stripe: Stripe, collection: InvoiceCollection) -> Step:
    now = timezone.now()
    # The first begins with the invoice, even if Stripe's clock is ahead of ours.
    begun = 1 + sum(_rung_at(collection, rung) <= now for rung in range(1, len(RUNGS)))
    if begun > collection.rungs_begun:
        # Rungs that nobody was there to begin are not made up for.
        return _advance(
            collection,
            Rail.WALLET,
            rungs_begun=begun,
            rung_begun_at=now,
            rate_limits=0,
        )
    busy = locks.busy(collection.pk)
    if busy:
        return Rest(State.PENDING, busy.why, _soonest(busy.until, now + _DAILY))
    until = now + _DAILY
    if collection.rungs_begun < len(RUNGS):
        until = min(until, _rung_at(collection, collection.rungs_begun))
    return Rest(State.MANUAL, "waits for a person, or the next try", until)


def next_try(collection: InvoiceCollection) -> datetime | None:
    """Return when wallet and card have their next turn, None if they have none."""
    is_asking = collection.status == InvoiceCollection.Status.OPEN
    if not is_asking or not collection.is_unpaid:
        return None
    if collection.rungs_begun >= len(RUNGS):
        return None
    return _rung_at(collection, collection.rungs_begun)


def _rung_at(collection: InvoiceCollection, rung: int) -> datetime:
    return (collection.finalized_at or collection.created_at) + RUNGS[rung]


def _by_wallet(stripe: Stripe, collection: InvoiceCollection) -> Step:
    if not _has_wallet(collection):
        return _advance(collection, Rail.CARD)
    if waiting := _wait_for_others(collection):
        return waiting
    try:
        start_payment(bill=bill_of(collection), guard=_claim(collection, Rail.CARD))
    except InvoiceChanged:
        return AGAIN
    except (PaymentInProgress, AlreadySettled) as exc:
        return Rest(State.PENDING, exc.message, getattr(exc, "until", None))
    except NoWallet:
        return _advance(collection, Rail.CARD)
    except CaravelError as exc:
        begun_at = collection.rung_begun_at or timezone.now()
        if timezone.now() - begun_at < _PATIENCE:
            raise
        logger.error("wallet_passed_over", error=str(exc))
        return _advance(collection, Rail.CARD)
    return Rest(State.PENDING, "the tenant's wallet has been asked", None)


def _by_card(stripe: Stripe, collection: InvoiceCollection) -> Step:
    if waiting := _wait_for_busy_wallet(collection):
        return waiting
    if collection.tenant.autopay_paused:
        return _advance(collection, Rail.NOTICE)
    card = cards.choose_card(stripe, collection)
    if not card:
        return _advance(collection, Rail.NOTICE)
    if waiting := _wait_for_others(collection):
        return waiting
    try:
        attempt = cards.start_attempt(collection, card, then=Rail.NOTICE)
    except InvoiceChanged:
        return AGAIN
    except PaymentInProgress as exc:
        return Rest(State.PENDING, exc.message, exc.until)
    cards.run_attempt(stripe, attempt)
    return AGAIN


def _by_notice(stripe: Stripe, collection: InvoiceCollection) -> Step:
    """Nothing could be charged in this rung: tell the tenant what is to be paid."""
    refused = collection.card_attempts.exclude(state=CardAttempt.State.PAID)
    if refused.filter(created_at__gte=collection.rung_begun_at).exists():
        notices.tell_payment_failed(collection)
    else:
        notices.tell_invoice_due(collection)
    return _advance(collection, Rail.NONE)


def _wait_for_busy_wallet(collection: InvoiceCollection) -> Step:
    """A wallet that has had too many requests is asked again, a few times."""
    last = NwcPayment.objects.filter(stripe_invoice_id=collection.pk).first()
    began = collection.rung_begun_at
    if last is None or began is None or last.created_at < began:
        return None
    is_busy = last.state == NwcPayment.State.REFUSED and last.code == "RATE_LIMITED"
    if not is_busy or collection.rate_limits >= _MOST_BUSY:
        return None
    again_at = (last.resolved_at or last.created_at) + _BUSY_PAUSE
    if again_at > timezone.now():
        return Rest(State.COLLECTING, "the wallet asked us to wait", again_at)
    return _advance(collection, Rail.WALLET, rate_limits=F("rate_limits") + 1)


def _wait_for_others(collection: InvoiceCollection) -> Rest | None:
    """Return how long something else may still pay; a person was shown a bolt11, say.

    Nobody is shown another one meanwhile, so that this happens once.
    """
    found = locks.busy(collection.pk)
    return Rest(State.PENDING, found.why, found.until) if found else None


def _has_wallet(collection: InvoiceCollection) -> bool:
    tenant = collection.tenant
    return bool(tenant.nwc_url) and not tenant.autopay_paused


def _claim(
    collection: InvoiceCollection, then: InvoiceCollection.Rail
) -> Callable[[], None]:
    """Return the guard of an attempt: it is for just this invoice as it was read."""

    def guard() -> None:
        locked = locks.require_no_other_rail(collection.pk)
        locks.require_unchanged(locked, collection)
        locks.require_turn(locked, collection)
        _columns(locked, next_rail=then)

    return guard


def _advance(
    collection: InvoiceCollection, rail: InvoiceCollection.Rail, **columns: object
) -> Step:
    """Go on to the next rail, unless somebody else has moved on already."""
    rows = InvoiceCollection.objects.filter(
        pk=collection.pk,
        next_rail=collection.next_rail,
        rung_begun_at=collection.rung_begun_at,
    )
    rows.update(next_rail=rail, **columns)
    return AGAIN


def _soonest(first: datetime | None, second: datetime) -> datetime:
    return min(first, second) if first else second


def _columns(collection: InvoiceCollection, **columns: object) -> None:
    InvoiceCollection.objects.filter(pk=collection.pk).update(**columns)
