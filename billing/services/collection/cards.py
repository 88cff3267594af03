"""Card charges: one at a time per invoice, and each is made once.

A bank debit is a charge that stays pending for days.
"""

import secrets
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Card, Invoice, Stripe
from billing.clients.stripe.errors import StripeCardRefused, StripeRefused
from billing.models import CardAttempt, InvoiceCollection
from billing.services.invoices import locks
from billing.services.invoices.records import read_invoice, record_invoice
from caravel.core.redaction import redact

logger = structlog.get_logger(__name__)

State = CardAttempt.State
#: Stripe keeps the answer to an idempotency key for at least 24 hours:
#: https://docs.stripe.com/api/idempotent_requests
_KEY_LIFETIME = timedelta(hours=23)
#: Longer than a request can take; the worker that sent it is then gone.
_REQUEST_TIMEOUT = timedelta(seconds=75)
#: How often a charge is looked up while the bank is processing it.
PROCESSING_RECHECK_INTERVAL = timedelta(hours=1)
#: Error codes of a charge that the cardholder must authenticate.
_AUTHENTICATION_CODES = frozenset(
    {"authentication_required", "invoice_payment_intent_requires_action"}
)


def is_same_card(attempt: CardAttempt, card: Card) -> bool:
    """Return whether an attempt was with this card, and not with one it has replaced.

    Networks replace cards in place: then the number or the expiry date is another. If
    both are unknown, the id decides.
    """
    pairs = (
        (attempt.card_fingerprint, card.fingerprint),
        (attempt.card_expires, card.expires),
    )
    return attempt.payment_method == card.id and all(
        then == now or not then or not now for then, now in pairs
    )


def was_charged_last(collection: InvoiceCollection, card: Card) -> bool:
    """Return whether the last attempt for an invoice was with this card."""
    last = collection.card_attempts.first()
    return last is not None and is_same_card(last, card)


def was_replaced(card: Card, *, tenant_id: str) -> bool:
    """Return whether a card's number or expiry date has changed since its charge."""
    attempts = CardAttempt.objects.filter(collection__tenant=tenant_id)
    last = attempts.filter(payment_method=card.id).first()
    return last is not None and not is_same_card(last, card)


def start_attempt(
    collection: InvoiceCollection, card: Card, *, then: InvoiceCollection.Action
) -> CardAttempt:
    """Record the attempt to charge a card for the remaining amount of an invoice.

    Raises PaymentInProgress while anything else may pay it, or InvoiceChanged.
    """
    with transaction.atomic():
        locked = locks.lock_if_unblocked(collection.pk)
        locks.require_unchanged(locked, collection)
        locks.require_same_step(locked, collection)
        rows = InvoiceCollection.objects.filter(pk=collection.pk)
        rows.update(next_action=then)
        return CardAttempt.objects.create(
            collection=locked,
            payment_method=card.id,
            card_fingerprint=card.fingerprint,
            card_expires=card.expires,
            method_type=card.type,
            amount_cents=locked.amount_remaining_cents,
            # Random: the key of an earlier attempt would get that attempt's answer.
            idempotency_key=f"caravel:pay:{collection.pk}:{secrets.token_hex(8)}",
        )


def run_attempt(stripe: Stripe, attempt: CardAttempt) -> None:
    """Charge the card, or repeat the request under its key to learn the outcome.

    Raises StripeUnavailable or StripeNotExecuted without an answer; the attempt then
    stays pending.
    """
    if timezone.now() - attempt.created_at > _KEY_LIFETIME:
        return _resolve_from_invoice_payments(stripe, attempt)
    # Before the request: no other worker repeats it until it must have ended.
    _update(attempt, tried_at=timezone.now())
    params = {"payment_method": attempt.payment_method, "off_session": True}
    try:
        paid = stripe.invoices.pay(
            attempt.collection_id, params, attempt.idempotency_key
        )
    except StripeCardRefused as exc:
        return _refuse(attempt, exc)
    except StripeRefused as exc:
        return _resolve_from_invoice_payments(stripe, attempt, error=exc)
    return _record_paid(stripe, attempt, paid)


def next_inquiry_at(attempt: CardAttempt) -> datetime:
    """Return when the request of a pending charge may be repeated."""
    if attempt.tried_at is None:
        return attempt.created_at
    return attempt.tried_at + _REQUEST_TIMEOUT


def _record_paid(stripe: Stripe, attempt: CardAttempt, paid: Invoice) -> None:
    if paid.status != InvoiceCollection.Status.PAID:
        return _resolve_from_invoice_payments(stripe, attempt)
    # Before the attempt stops blocking others: they must not read it as unpaid.
    record_invoice(invoice=paid, tenant=attempt.collection.tenant)
    return _resolve(attempt, State.PAID)


def _refuse(attempt: CardAttempt, error: StripeCardRefused) -> None:
    codes = {error.stripe_code, error.decline_code}
    needs_authentication = codes & _AUTHENTICATION_CODES
    # Stripe's text about authentication is for developers.
    message = "" if needs_authentication else redact(error.text)
    _resolve(
        attempt,
        State.ACTION_REQUIRED if needs_authentication else State.REFUSED,
        code=(error.decline_code or error.stripe_code)[:64],
        advice_code=error.advice_code[:64],
        message=message[:240],
    )


def _resolve_from_invoice_payments(
    stripe: Stripe, attempt: CardAttempt, *, error: StripeRefused | None = None
) -> None:
    """Resolve an attempt from Stripe's list of the invoice's payments.

    It stays pending while a bank is processing it.
    """
    if error:
        # Not for the tenant to read, unlike a bank's refusal.
        logger.warning("charge_refused", error=redact(error.message))
    code = error.stripe_code[:64] if error else ""
    for payment in stripe.invoices.list_payments(attempt.collection_id):
        if not payment.intent:
            continue
        intent = stripe.payment_intents.get(payment.intent)
        was_tried = intent.card in ("", attempt.payment_method)
        if payment.status == "paid" and was_tried:
            read_invoice(stripe, attempt.collection_id, attempt.collection.tenant)
            return _resolve(attempt, State.PAID)
        if intent.status == "processing" and was_tried:
            return None
        if intent.status == "requires_action" and was_tried:
            return _resolve(attempt, State.ACTION_REQUIRED, code=intent.error_code)
        code = code or intent.decline_code or intent.error_code
    return _resolve(attempt, State.REFUSED, code=code or "not_charged")


def _resolve(attempt: CardAttempt, state: CardAttempt.State, **columns: str) -> None:
    _update(attempt, state=state, resolved_at=timezone.now(), **columns)
    logger.info("card_attempt", state=state, code=attempt.code)


def _update(attempt: CardAttempt, **columns: object) -> None:
    """Update a pending attempt; a resolved one stays as it is."""
    with transaction.atomic():
        rows = CardAttempt.objects.pending().filter(pk=attempt.pk)
        rows.update(**columns)
    attempt.refresh_from_db()
