"""Paying an invoice: by a payment method, or out of band.

Source: API reference, "Pay an invoice"; docs page "Status transitions".
"""

from sandbox.stripe.context import Context
from sandbox.stripe.objects import collection
from sandbox.stripe.protocol.errors import StripeError, invalid
from sandbox.stripe.store import Record

COLLECTIBLE = ("open", "uncollectible")
UPDATED = "invoice.updated"


def pay(
    context: Context, id: str, *, out_of_band: bool, method: str | None = None
) -> Record:
    """Pay an open or uncollectible invoice. Raises a 400 or a 402."""
    invoice = context.get("invoice", id)
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] not in COLLECTIBLE:
        raise invalid(
            f"This invoice can't be paid because its status is {invoice['status']}; "
            "only open or uncollectible invoices can be paid."
        )
    if out_of_band:
        mark_paid(context, id, off_stripe=True)
        return context.get("invoice", id)
    method = method or collection.payment_method(context, invoice)
    if method is None:
        raise invalid(
            "There is no `default_payment_method` set on this Customer or Invoice. "
            "Please set a `default_payment_method`.",
            code="missing",
        )
    if not attempt(context, id, method):
        raise StripeError(
            402, "Your card was declined.", type="card_error", code="card_declined"
        )
    return context.get("invoice", id)


def attempt(context: Context, id: str, method: str | None) -> bool:
    """Charge the invoice; return whether that paid it."""
    invoice = context.get("invoice", id)
    with context.edit("invoice", id) as draft:
        draft.update(attempt_count=invoice["attempt_count"] + 1, attempted=True)
    if collection.charge(context, invoice, method):
        mark_paid(context, id, off_stripe=False)
        return True
    context.emit("invoice.payment_failed", context.get("invoice", id))
    collection.on_failed(context, invoice)
    return False


def mark_paid(context: Context, id: str, *, off_stripe: bool) -> None:
    """Close the invoice as paid; out of band when no money moved at Stripe."""
    with context.edit("invoice", id, UPDATED) as invoice:
        due = invoice["amount_remaining"]
        invoice.update(
            amount_paid=invoice["amount_paid"] + due,
            amount_remaining=0,
            attempted=True,
            auto_advance=False,
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
    collection.on_paid(context, paid)
