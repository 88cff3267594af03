"""Paying an invoice: by a card, or out of band.

Sources: API reference, "Pay an invoice"; docs pages "Status transitions" and "Using
webhooks with subscriptions".
"""

from sandbox.stripe import currencies
from sandbox.stripe.context import Context
from sandbox.stripe.objects import (
    collection,
    invoice_payments,
    outcomes,
    payment_attempt,
    payment_methods,
)
from sandbox.stripe.objects.outcomes import Outcome
from sandbox.stripe.protocol.errors import invalid
from sandbox.stripe.store import Record

COLLECTIBLE = ("open", "uncollectible")
UPDATED = "invoice.updated"


def pay(
    context: Context,
    id: str,
    *,
    out_of_band: bool,
    method: str | None = None,
    off_session: bool = True,
) -> Record:
    """Pay an open or uncollectible invoice. Raises a 400, or a 402 that stands."""
    invoice = payable(context, id)
    if out_of_band:
        mark_paid(context, id, off_stripe=True)
        return context.get("invoice", id)
    payment_methods.require(context, method, invoice["customer"], "payment_method")
    method = method or collection.payment_method(context, invoice)
    if method is None:
        raise invalid(
            "There is no `default_payment_method` set on this Customer or Invoice. "
            "Please set a `default_payment_method`.",
            code="missing",
        )
    if not attempt(context, id, method, off_session=off_session):
        raise payment_attempt.refusal(
            context, invoice_payments.intent_of(context, invoice)
        )
    return context.get("invoice", id)


def payable(context: Context, id: str) -> Record:
    """Return an invoice that can be paid. Raises a 400 or a 404."""
    invoice = context.get("invoice", id)
    if invoice["status"] == "paid":
        # No code: Stripe's list of them has none for it.
        raise invalid("Invoice is already paid")
    if invoice["status"] not in COLLECTIBLE:
        raise invalid(
            f"This invoice can't be paid because its status is {invoice['status']}; "
            "only open or uncollectible invoices can be paid."
        )
    return invoice


def attempt(
    context: Context,
    id: str,
    method: str | None,
    *,
    off_session: bool = True,
    automatic: bool = False,
) -> bool:
    """Charge the invoice; return whether that paid it. Raises a 400.

    Without a payment method nothing is charged, and that is a failure too.
    """
    invoice = context.get("invoice", id)
    card = context.store.get("payment_method", method) if method else None
    if not automatic:
        _check_amount(invoice)
    if card is None or _is_too_small(invoice):
        _fail(context, id, automatic=automatic)
        return False
    outcome = outcomes.decide(context, invoice, card, off_session=off_session)
    payment_attempt.carry_out(
        context,
        invoice_payments.intent_of(context, invoice),
        card,
        outcome,
        on_session=not off_session,
    )
    return _conclude(context, id, card, outcome, automatic=automatic)


def skip(context: Context, id: str) -> None:
    """Let a scheduled retry pass that no payment method is there for.

    Source: docs page "Automate payment retries": it counts, but charges nothing.
    """
    _fail(context, id, automatic=True)


def authenticate(context: Context, intent: str, *, passed: bool) -> bool:
    """End a person's 3D Secure challenge; return whether that paid the invoice.

    Raises a 400 when none is going on.
    """
    record = context.get("payment_intent", intent)
    if record["status"] != "requires_action":
        raise invalid(
            f"This PaymentIntent's status is {record['status']}: there is nothing to "
            "authenticate.",
            code="payment_intent_unexpected_state",
        )
    card = context.get("payment_method", record["payment_method"])
    if passed:
        _check_amount(context.get("invoice", record["_invoice"]))
    if not passed:
        payment_attempt.fail_authentication(context, intent, card)
        _fail(context, record["_invoice"], automatic=False)
        return False
    outcome = outcomes.after_challenge(card)
    payment_attempt.carry_out(
        context, intent, card, outcome, on_session=True, authenticated=True
    )
    return _conclude(context, record["_invoice"], card, outcome, automatic=False)


def mark_paid(
    context: Context, id: str, *, off_stripe: bool, method: Record | None = None
) -> None:
    """Close the invoice as paid; out of band when no money moved at Stripe."""
    with context.update("invoice", id, UPDATED) as invoice:
        due = invoice["amount_remaining"]
        invoice.update(
            amount_paid=invoice["amount_paid"] + due,
            amount_remaining=0,
            attempt_count=max(invoice["attempt_count"], 1 if method else 0),
            attempted=True,
            auto_advance=False,
            next_payment_attempt=None,
            status="paid",
            status_details=None,
            _paid_off_stripe=due if off_stripe else 0,
        )
        invoice["status_transitions"]["paid_at"] = context.now
    paid = context.get("invoice", id)
    context.emit("invoice.paid", paid)
    # Not sent for payments out of band (docs: Invoicing integration, payment events).
    if not off_stripe:
        context.emit("invoice.payment_succeeded", paid)
    invoice_payments.settle(context, id)
    collection.on_paid(context, paid, method["id"] if method else None)


def _is_too_small(invoice: Record) -> bool:
    """Return whether credit notes have left less than a card can be charged."""
    least = currencies.minimum_charge(invoice["currency"])
    return int(invoice["amount_remaining"]) < least


def _check_amount(invoice: Record) -> None:
    """Raise a 400 for an amount that no card is charged.

    Source: docs page "Error codes". Assumed for what is left of an invoice: only
    paying out of band, or another credit note, then closes it.
    """
    if _is_too_small(invoice):
        currency = invoice["currency"]
        least = currencies.text(currencies.minimum_charge(currency), currency)
        raise invalid(
            f"Amount must be at least {least} {currency}.", code="amount_too_small"
        )


def _conclude(
    context: Context, id: str, card: Record, outcome: Outcome, *, automatic: bool
) -> bool:
    if not outcome.challenge and outcome.decline is None:
        if automatic:
            _count(context, id)
        mark_paid(context, id, off_stripe=False, method=card)
        return True
    _fail(context, id, automatic=automatic, card=card, outcome=outcome)
    return False


def _count(context: Context, id: str) -> None:
    with context.update("invoice", id) as invoice:
        invoice["attempt_count"] += 1


def _fail(
    context: Context,
    id: str,
    *,
    automatic: bool,
    card: Record | None = None,
    outcome: Outcome | None = None,
) -> None:
    """Note a failed attempt on the invoice, and say so.

    The first attempt counts whoever made it, later ones only when Stripe did (SDK
    docstring of Invoice.attempt_count).
    """
    with context.update("invoice", id, UPDATED) as invoice:
        count = invoice["attempt_count"]
        invoice.update(
            attempt_count=count + 1 if automatic else max(count, 1), attempted=True
        )
        if card and outcome and outcome.decline and outcome.decline.hard:
            invoice["_refused"] = card["id"]
        if automatic:
            collection.schedule_retry(context, invoice)
    failed = context.get("invoice", id)
    if outcome and outcome.challenge:
        context.emit("invoice.payment_action_required", failed)
    context.emit("invoice.payment_failed", failed)
    collection.on_failed(context, failed, automatic=automatic)
