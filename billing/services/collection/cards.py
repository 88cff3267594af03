"""Charging a card: one charge at a time for an invoice, and none asked for twice."""

import secrets
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.exceptions import StripeCardRefused, StripeRefused
from billing.models import CardAttempt, InvoiceCollection
from billing.services.invoices import locks
from billing.services.invoices.records import read_invoice, record_invoice
from caravel.core.redaction import redact

logger = structlog.get_logger(__name__)

State = CardAttempt.State
#: Declines after which the same card is not charged again.
#: https://docs.stripe.com/declines/codes
HARD_DECLINES = frozenset(
    {
        "lost_card",
        "pickup_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "stolen_card",
        "stop_payment_order",
    }
)
_NOT_AGAIN = "do_not_try_again"
#: Stripe keeps the answer to an idempotency key for 24 hours at least.
_KEY_LIVES = timedelta(hours=23)
#: Longer than a request can take; then whoever sent it is gone.
_REQUEST = timedelta(seconds=75)
#: How often a charge is looked up that the bank takes its time for.
PROCESSING = timedelta(hours=1)
#: The codes of a charge that its owner must confirm.
_ACTION = frozenset(
    {"authentication_required", "invoice_payment_intent_requires_action"}
)


def choose_card(stripe: Stripe, collection: InvoiceCollection) -> str:
    """Return the card to charge: the customer's default, else the newest; "" for none.

    The newest becomes the default. One that was declined for good is passed over.
    """
    customer = stripe.get_customer(collection.stripe_customer_id)
    if customer.deleted:
        return ""
    attached = [card.id for card in stripe.list_cards(customer.id)]
    chosen = [customer.default_card] if customer.default_card else []
    refused = _refused_for_good(collection)
    usable = [card for card in [*chosen, *attached] if card not in refused]
    card = usable[0] if usable else ""
    if card and not customer.default_card:
        stripe.set_default_card(customer.id, card)
    return card


def start_attempt(
    collection: InvoiceCollection, card: str, *, then: InvoiceCollection.Action
) -> CardAttempt:
    """Record that a card is about to be charged for what remains of an invoice.

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
            payment_method=card,
            amount_cents=locked.amount_remaining_cents,
            idempotency_key=f"caravel:pay:{collection.pk}:{secrets.token_hex(8)}",
        )


def run_attempt(stripe: Stripe, attempt: CardAttempt) -> None:
    """Ask for the charge, or find out what came of it; it is the same request.

    Raises StripeUnavailable or StripeRateLimited when there is no answer; the attempt
    is pending until there is.
    """
    if timezone.now() - attempt.created_at > _KEY_LIVES:
        return _look_up(stripe, attempt)
    _columns(attempt, tried_at=timezone.now())
    params = {"payment_method": attempt.payment_method, "off_session": True}
    try:
        paid = stripe.pay_invoice(
            attempt.collection_id, params, attempt.idempotency_key
        )
    except StripeCardRefused as exc:
        return _refuse(attempt, exc)
    except StripeRefused as exc:
        return _look_up(stripe, attempt, error=exc)
    return _conclude(stripe, attempt, paid)


def next_inquiry_at(attempt: CardAttempt) -> datetime:
    """Return when a charge that has no outcome may be asked about again."""
    return attempt.tried_at + _REQUEST if attempt.tried_at else attempt.created_at


def _conclude(stripe: Stripe, attempt: CardAttempt, paid: Invoice) -> None:
    if paid.status != InvoiceCollection.Status.PAID:
        return _look_up(stripe, attempt)
    # Before the claim ends: nobody is to take it for unpaid.
    record_invoice(found=paid, tenant=attempt.collection.tenant)
    return _resolve(attempt, State.PAID)


def _refuse(attempt: CardAttempt, error: StripeCardRefused) -> None:
    needs_person = {error.stripe_code, error.decline_code} & _ACTION
    _resolve(
        attempt,
        State.ACTION_REQUIRED if needs_person else State.REFUSED,
        code=(error.decline_code or error.stripe_code)[:64],
        advice_code=error.advice_code[:64],
        message=redact(error.message)[:240],
    )


def _look_up(
    stripe: Stripe, attempt: CardAttempt, *, error: StripeRefused | None = None
) -> None:
    """Let the invoice's payments tell; lists are exact at once."""
    message = redact(error.message)[:240] if error else ""
    code = error.stripe_code[:64] if error else ""
    for payment in stripe.list_invoice_payments(attempt.collection_id):
        if not payment.intent:
            continue
        intent = stripe.get_payment_intent(payment.intent)
        is_its = intent.card in ("", attempt.payment_method)
        if payment.status == "paid" and is_its:
            read_invoice(stripe, attempt.collection_id, attempt.collection.tenant)
            return _resolve(attempt, State.PAID)
        if intent.status == "processing" and error is None:
            return None
        if intent.status == "requires_action" and is_its:
            return _resolve(attempt, State.ACTION_REQUIRED, code=intent.error_code)
        code = code or intent.decline_code or intent.error_code
    return _resolve(attempt, State.REFUSED, code=code or "not_charged", message=message)


def _resolve(attempt: CardAttempt, state: CardAttempt.State, **columns: str) -> None:
    _columns(attempt, state=state, resolved_at=timezone.now(), **columns)
    logger.info("card_attempt", state=state, code=attempt.code)


def _refused_for_good(collection: InvoiceCollection) -> set[str]:
    attempts = CardAttempt.objects.filter(collection__tenant=collection.tenant_id)
    hard = Q(code__in=HARD_DECLINES) | Q(advice_code=_NOT_AGAIN)
    return set(attempts.filter(hard).values_list("payment_method", flat=True))


def _columns(attempt: CardAttempt, **columns: object) -> None:
    """Write to an attempt that is pending; what is resolved stays so."""
    with transaction.atomic():
        rows = CardAttempt.objects.pending().filter(pk=attempt.pk)
        rows.update(**columns)
    attempt.refresh_from_db()
