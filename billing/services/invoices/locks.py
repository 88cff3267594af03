"""At most one payment or change per invoice at a time (ADR 12).

Each pending payment or change has a row: a wallet or card attempt, a live bolt11, a
credit note being created, a Lightning payment not yet booked. It is created under the
collection's lock, and only if no other exists; the row itself is the lock. Lock order:
Lightning invoices, their attempts, the tenant, the collection.

What a person has started at Stripe has no row: the collection says so, as last read.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from billing.exceptions import InvoiceChanged
from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Settlement,
    StripeWrite,
)
from billing.models.credits import CreditQuerySet
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.live_payments import live_payment, live_payments_for_payers

#: How long a person may take for a 3D Secure challenge, from when we have seen it: the
#: most that Stripe's SDKs allow is 99 minutes, the banks' pages end after 10 to 30.
#: https://stripe.dev/stripe-android (Stripe3ds2Config, `setTimeout`)
CHALLENGE_TIMEOUT = timedelta(hours=1)
Intent = InvoiceCollection.IntentStatus


@dataclass(frozen=True)
class Blocker:
    """The reason why an invoice cannot be paid or changed.

    `until` is the latest end of it, never in the past, and None if it is unknown.
    """

    reason: str
    until: datetime | None = None


def payment_blocker(invoice_id: str) -> Blocker | None:
    """Return the pending payment or change of an invoice, None if there is none."""
    # In this order, a bolt11 that is paid in between is found by one of the queries.
    live = live_payment(invoice_id)
    if other := _other_blocker(invoice_id):
        return other
    return Blocker(live.reason, live.until) if live else None


def blocker_at_stripe(collection: InvoiceCollection) -> Blocker | None:
    """Return the bank payment or 3D Secure challenge that may be paying an invoice.

    A bank payment blocks until Stripe reports its end, a challenge for an hour.
    """
    if collection.is_bank_debited:
        return Blocker("A bank payment is in progress.")
    is_challenged = collection.intent_status == Intent.REQUIRES_ACTION
    if not collection.is_unpaid or not is_challenged or not collection.intent_since:
        return None
    until = collection.intent_since + CHALLENGE_TIMEOUT
    is_over = until <= timezone.now()
    return None if is_over else Blocker("A card payment is being confirmed.", until)


def blocker_for_payer(invoice_id: str) -> Blocker | None:
    """Return the reason why a payer cannot pay an invoice now, None if they can.

    An expired, unpaid bolt11 does not block: the payer can request a new one, unless
    support must decide whether it was paid.
    """
    return blockers_for_payer([invoice_id]).get(invoice_id)


def blockers_for_payer(invoice_ids: Collection[str]) -> dict[str, Blocker]:
    """Return, by invoice, the reason why a payer cannot pay it now.

    Invoices that can be paid are left out. The number of queries is constant.
    """
    blockers = _blockers_at_stripe(invoice_ids)
    for invoice_id, live in live_payments_for_payers(invoice_ids).items():
        blockers.setdefault(invoice_id, Blocker(live.reason, live.until))
    for blocker, ids in _blockers(invoice_ids):
        for invoice_id in ids:
            # A pending wallet payment comes first: its `until` may be known.
            blockers.setdefault(invoice_id, blocker)
    return blockers


def lock_if_unblocked(invoice_id: str) -> InvoiceCollection:
    """Lock and return a collection without a pending payment or change.

    Call it in the transaction that creates the next one. Raises PaymentInProgress, with
    `until` if known.
    """
    collection = lock_collection(invoice_id)
    # Under the lock: another worker may have committed while this one waited for it.
    _raise_if(payment_blocker(invoice_id))
    return collection


def lock_if_no_other_method(invoice_id: str) -> InvoiceCollection:
    """Like `lock_if_unblocked`, for callers that have locked the Lightning invoices."""
    collection = lock_collection(invoice_id)
    _raise_if(_other_blocker(invoice_id))
    return collection


def require_unchanged(locked: InvoiceCollection, read: InvoiceCollection) -> None:
    """Require that the amount to pay is still as read, and will not be reduced.

    Raises InvoiceChanged, also while a reduction is pending.
    """
    expected = (read.stripe_status, read.amount_remaining_cents)
    amount = (locked.stripe_status, locked.amount_remaining_cents)
    is_same_debt = locked.dispute_debt_cents == read.dispute_debt_cents
    if amount != expected or not is_same_debt:
        raise InvoiceChanged("The invoice has just changed.")
    if has_pending_reduction(locked):
        raise InvoiceChanged("The invoice is about to be reduced.")


def has_pending_reduction(collection: InvoiceCollection) -> bool:
    """Return whether a credit, or the subscription's cancellation, will reduce it.

    Until then it is not charged: part of it may be for time that will not be used.
    """
    kind = StripeWrite.Kind.CANCEL_SUBSCRIPTION
    cancellations = StripeWrite.objects.of(kind, collection.stripe_subscription_id)
    reductions = pending_reductions(collection)
    return reductions.exists() or cancellations.pending().exists()


def pending_reductions(collection: InvoiceCollection) -> CreditQuerySet:
    """Return the owed credits that will reduce an invoice before it is paid."""
    owed = Credit.objects.owed()
    if collection.stripe_status == InvoiceCollection.Status.UNCOLLECTIBLE:
        # Stripe may refuse to reduce it; the credit then waits for the payment.
        owed = Credit.objects.unblocked()
    return owed.filter(collection=collection, amount_cents__gt=0)


def require_same_step(locked: InvoiceCollection, read: InvoiceCollection) -> None:
    """Require that the attempt is still at the step that was read.

    Raises InvoiceChanged if another worker has gone on, or a new attempt has started.
    """
    expected = (read.next_action, read.attempt_started_at)
    if (locked.next_action, locked.attempt_started_at) != expected:
        raise InvoiceChanged("The payment attempt has just moved on.")


def lock_collection(invoice_id: str) -> InvoiceCollection:
    rows = InvoiceCollection.objects.select_for_update()
    collection: InvoiceCollection = rows.get(pk=invoice_id)
    return collection


def has_pending_attempt(invoice_id: str) -> bool:
    """Return whether a wallet payment or a card charge is pending."""
    wallets = NwcPayment.objects.pending().filter(stripe_invoice_id=invoice_id)
    return has_pending_charge(invoice_id) or wallets.exists()


def has_pending_charge(invoice_id: str) -> bool:
    """Return whether a card charge is pending."""
    return CardAttempt.objects.pending().filter(collection=invoice_id).exists()


def waits_for_support(invoice_id: str) -> bool:
    """Return whether support must decide whether an invoice was paid by Lightning."""
    live = LightningInvoice.objects.of(invoice_id).live()
    return live.filter(contradicted_at__isnull=False).exists()


def is_being_paid(collection: InvoiceCollection) -> bool:
    """Return whether a payment has been made, as in `not_being_paid`.

    It is a bank payment in progress, or one by Lightning that our wallet does not show.
    """
    bolt11s = LightningInvoice.objects.of(collection.pk)
    undecided = bolt11s.undecided(timezone.now())
    return collection.is_bank_debited or undecided.exists()


def has_unbooked_payment(invoice_id: str) -> bool:
    """Return whether a Lightning payment has arrived that is not booked yet."""
    return _unbooked([invoice_id]).exists()


def with_unbooked_payment(invoice_ids: Collection[str]) -> set[str]:
    """Return the invoices that `has_unbooked_payment` is true of."""
    unbooked = _unbooked(invoice_ids)
    return set(unbooked.values_list("stripe_invoice_id", flat=True))


def _blockers_at_stripe(invoice_ids: Collection[str]) -> dict[str, Blocker]:
    rows = InvoiceCollection.objects.filter(pk__in=invoice_ids)
    started = rows.exclude(intent_status=Intent.NONE)
    blockers = {row.pk: blocker_at_stripe(row) for row in started}
    return {key: blocker for key, blocker in blockers.items() if blocker}


def _other_blocker(invoice_id: str) -> Blocker | None:
    if at_stripe := _blockers_at_stripe([invoice_id]).get(invoice_id):
        return at_stripe
    for blocker, ids in _blockers([invoice_id]):
        if ids.exists():
            return blocker
    return None


def _blockers(
    invoice_ids: Collection[str],
) -> Iterator[tuple[Blocker, QuerySet[Any, str]]]:
    """Yield each blocker other than a live bolt11, with the invoices it applies to."""
    charges = CardAttempt.objects.pending().filter(collection__in=invoice_ids)
    charged = charges.values_list("collection_id", flat=True)
    yield Blocker("A card payment is in progress."), charged
    notes = StripeWrite.objects.pending().filter(
        kind=StripeWrite.Kind.CREATE_CREDIT_NOTE, subject__in=invoice_ids
    )
    reduced = notes.values_list("subject", flat=True)
    yield Blocker("The amount is about to be reduced."), reduced
    unbooked = _unbooked(invoice_ids).values_list("stripe_invoice_id", flat=True)
    yield Blocker("A payment has arrived and is being booked."), unbooked


def _unbooked(invoice_ids: Collection[str]) -> QuerySet[LightningInvoice]:
    settled = LightningInvoice.objects.filter(
        stripe_invoice_id__in=invoice_ids, state=LightningInvoice.State.SETTLED
    )
    return settled.exclude(settlement__state__in=Settlement.BOOKED_STATES)


def _raise_if(blocker: Blocker | None) -> None:
    if blocker:
        raise PaymentInProgress(blocker.reason, until=blocker.until)
