"""Pay an invoice, by card or out of band.

Sources: API reference, "Pay an invoice"; docs pages "Status transitions" and "Using
webhooks with subscriptions".
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.routing import Params
from sandbox.stripe.money import currencies
from sandbox.stripe.objects.invoices import collection, payment_records
from sandbox.stripe.objects.payments import outcomes, payment_intents, payment_methods
from sandbox.stripe.objects.payments.outcomes import Outcome
from sandbox.stripe.objects.schemas.test_bank_accounts import CURRENCIES
from sandbox.stripe.store.records import Record

COLLECTIBLE = ("open", "uncollectible")
UPDATED = "invoice.updated"


def pay(context: Context, id: str, params: Params) -> Record:
    """Pay an open or uncollectible invoice.

    Raises a 400, or a 402 for a failed charge; the failure is stored.
    """
    invoice = get_payable(context, id)
    if params.get("paid_out_of_band"):
        mark_paid(context, id, off_stripe=True)
        if context.settings.out_of_band_payments == "payment_record":
            amount = invoice["amount_remaining"]
            payment_records.add_external(context, invoice, amount)
        return context.get("invoice", id)
    name = "payment_method"
    method = params.get(name)
    payment_methods.require_attached(context, method, invoice["customer"], name)
    method = method or collection.payment_method(context, invoice)
    if method is None:
        raise invalid(
            "There is no `default_payment_method` set on this Customer or Invoice. "
            "Please set a `default_payment_method`.",
            code="missing",
        )
    if not attempt(context, id, method, off_session=params.get("off_session", True)):
        intent = payment_records.get_intent_id(context, invoice)
        raise payment_intents.failure_error(context, intent)
    return context.get("invoice", id)


def get_payable(context: Context, id: str) -> Record:
    """Return an invoice that can be paid. Raises a 400 or a 404."""
    invoice = context.get("invoice", id)
    if invoice["status"] == "paid":
        # Without a code: Stripe's list of error codes has none for this.
        raise invalid("Invoice is already paid")
    if invoice["status"] not in COLLECTIBLE:
        raise invalid(
            f"This invoice can't be paid because its status is {invoice['status']}; "
            "only open or uncollectible invoices can be paid."
        )
    payment_records.check_not_processing(context, id)
    return invoice


def attempt(
    context: Context,
    id: str,
    method: str | None,
    *,
    off_session: bool = True,
    automatic: bool = False,
) -> bool:
    """Charge the invoice; return whether it is paid, or a bank debit is on its way.

    Without a payment method nothing is charged, and a failed attempt is recorded.
    Raises a 400.
    """
    invoice = context.get("invoice", id)
    _check_minimum(invoice)
    card = context.store.get("payment_method", method) if method else None
    if card is None:
        _record_failure(context, id, automatic=automatic)
        return False
    _check_currency(invoice, card)
    outcome = outcomes.next_outcome(context, invoice, card, off_session=off_session)
    intent = payment_records.get_intent_id(context, invoice)
    payment_intents.execute(context, intent, card, outcome)
    return _record_outcome(context, id, outcome, automatic=automatic)


def authenticate(context: Context, intent: str, *, passed: bool) -> None:
    """Complete a 3D Secure challenge. Raises a 400 if none is pending."""
    record = context.get("payment_intent", intent)
    if record["status"] != "requires_action":
        raise invalid(
            f"This PaymentIntent's status is {record['status']}: there is nothing to "
            "authenticate.",
            code="payment_intent_unexpected_state",
        )
    id = record["_invoice"]
    card = context.get("payment_method", record["payment_method"])
    if not passed:
        payment_intents.fail_authentication(context, intent, card)
        _record_failure(context, id, automatic=False)
        return
    # A credit note may have reduced the amount since the challenge was created.
    _check_minimum(context.get("invoice", id))
    outcome = outcomes.outcome_of_card(card)
    payment_intents.execute(context, intent, card, outcome, authenticated=True)
    _record_outcome(context, id, outcome, automatic=False)


def settle(context: Context, intent: str, *, failure: str | None = None) -> None:
    """End the processing of a bank debit, and with it the attempt to pay its invoice.

    A failure has the same effects as a declined card. Raises a 400 or a 404.
    """
    payment_intents.settle(context, intent, failure=failure)
    id = context.get("payment_intent", intent)["_invoice"]
    if failure is None:
        mark_paid(context, id, off_stripe=False, charged=True)
        return
    method = context.get("invoice", id)["collection_method"]
    _record_failure(context, id, automatic=method == "charge_automatically")


def mark_paid(
    context: Context, id: str, *, off_stripe: bool, charged: bool = False
) -> None:
    """Mark the invoice paid; `off_stripe` if the money did not move at Stripe."""
    with context.update("invoice", id, UPDATED) as invoice:
        due = invoice["amount_remaining"]
        invoice.update(
            amount_paid=invoice["amount_paid"] + due,
            amount_remaining=0,
            attempt_count=max(invoice["attempt_count"], int(charged)),
            # Out of band nothing is attempted: recordings of sent invoices.
            attempted=invoice["attempted"] or not off_stripe,
            auto_advance=False,
            status="paid",
            _paid_off_stripe=due if off_stripe else 0,
        )
        invoice.pop("status_details", None)
        invoice["status_transitions"]["paid_at"] = context.now
    context.emit("invoice.paid", invoice)
    # Not emitted for out-of-band payments (docs: Invoicing integration, payment
    # events).
    if not off_stripe:
        context.emit("invoice.payment_succeeded", invoice)
    payment_records.close_default(context, id)
    collection.on_paid(context, invoice)


def _check_currency(invoice: Record, method: Record) -> None:
    """Raise a 400 if the payment method cannot pay in the invoice's currency."""
    currency = CURRENCIES.get(method["type"], invoice["currency"])
    if currency != invoice["currency"]:
        raise invalid(
            f"The payment method {method['type']} only pays in {currency}.",
            param="payment_method",
            code="payment_method_currency_mismatch",
        )


def _check_minimum(invoice: Record) -> None:
    """Raise a 400 if the remaining amount is below the minimum charge.

    Only credit notes on an open invoice lead to this. Source: docs page "Error codes".
    Assumed: the rest can then only be paid out of band or credited.
    """
    currency = invoice["currency"]
    minimum = currencies.minimum_charge(currency)
    if invoice["amount_remaining"] < minimum:
        text = currencies.text(minimum, currency)
        raise invalid(
            f"Amount must be at least {text} {currency}.", code="amount_too_small"
        )


def _record_outcome(
    context: Context, id: str, outcome: Outcome, *, automatic: bool
) -> bool:
    if outcome.challenge or outcome.decline:
        _record_failure(context, id, automatic=automatic, challenge=outcome.challenge)
        return False
    if outcome.processing:
        # The invoice stays open meanwhile (docs page "Status transitions").
        changes = {"attempt_count": 1, "attempted": True}
        collection.on_processing(
            context, context.change("invoice", id, UPDATED, **changes)
        )
    else:
        mark_paid(context, id, off_stripe=False, charged=True)
    return True


def _record_failure(
    context: Context, id: str, *, automatic: bool, challenge: bool = False
) -> None:
    """Record a failed attempt on the invoice and emit its events."""
    with context.update("invoice", id, UPDATED) as invoice:
        # Later attempts are manual and do not count (SDK docstring of
        # Invoice.attempt_count).
        invoice.update(attempt_count=1, attempted=True)
        if automatic and invoice["auto_advance"]:
            # There are no retries: the invoice's timer ends the collection now.
            invoice["_gives_up_at"] = context.now
    if challenge:
        context.emit("invoice.payment_action_required", invoice)
    context.emit("invoice.payment_failed", invoice)
    collection.on_failed(context, invoice, automatic=automatic)
