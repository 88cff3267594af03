"""An invoice's way from draft to paid, void or uncollectible.

Source: docs page "Status transitions and finalization". Every change emits
`invoice.updated` and then the event that names it.
"""

from collections.abc import Sequence
from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.cycle import DAY, Period
from sandbox.stripe.money import settle
from sandbox.stripe.objects import (
    balances,
    collection,
    invoice_items,
    invoice_payment,
    invoice_payments,
)
from sandbox.stripe.objects.invoice_payment import COLLECTIBLE, UPDATED
from sandbox.stripe.objects.invoice_shape import (
    new_invoice,
    subscription_parent,
    totals,
)
from sandbox.stripe.protocol.errors import StripeError, invalid
from sandbox.stripe.resource import Timer
from sandbox.stripe.store import Record

DRAFT_PERIOD = 3_600


def bill_subscription(
    context: Context,
    subscription: Record,
    lines: Sequence[dict[str, Any]],
    *,
    reason: str,
    period: Period,
) -> Record | None:
    """Return a new draft with the pending items and then these lines.

    Both newest first, as Stripe sorts them. None when there is nothing to bill.
    """
    items = invoice_items.pending(context, subscription["id"])
    if not items and not lines:
        return None
    invoice = new_invoice(
        context,
        customer=_customer(context, subscription["customer"]),
        currency=subscription["currency"],
        collection_method=subscription["collection_method"],
        reason=reason,
        period=period,
        lines=[
            *(invoice_items.line_of(context, item) for item in items),
            *reversed(lines),
        ],
        parent=subscription_parent(subscription),
    )
    invoice["_days_until_due"] = subscription["days_until_due"]
    # Stripe does not collect while a subscription is unpaid (docs page "How
    # subscriptions work"): its invoices stay drafts.
    invoice["auto_advance"] = subscription["status"] != "unpaid"
    return add(context, invoice, items)


def add(context: Context, invoice: dict[str, Any], items: list[Record]) -> Record:
    """Store a draft with its invoice items; emit `invoice.created`."""
    invoice_items.attach(context, items, invoice["id"])
    if invoice["auto_advance"]:
        invoice["automatically_finalizes_at"] = context.now + DRAFT_PERIOD
    invoice["webhooks_delivered_at"] = context.now
    return context.insert(invoice, "invoice.created")


def finalize(context: Context, id: str, auto_advance: bool | None = None) -> Record:
    """Open a draft: number, due date, balance. Raises a 400 for another status.

    An invoice with nothing due is paid at once; with automatic collection the
    payment method is charged.
    """
    if context.get("invoice", id)["status"] != "draft":
        raise invalid(
            "This invoice is already finalized, you can't re-finalize a non-draft "
            "invoice.",
            code="invoice_not_editable",
        )
    with context.edit("invoice", id, UPDATED) as invoice:
        _open(context, invoice)
        if auto_advance is not None:
            invoice["auto_advance"] = auto_advance
    context.emit("invoice.finalized", context.get("invoice", id))
    _settle_balance(context, context.get("invoice", id))
    invoice = dict(context.get("invoice", id))
    if invoice["amount_due"] == 0:
        invoice_payment.mark_paid(context, id, off_stripe=False)
        return context.get("invoice", id)
    automatic = invoice["collection_method"] == "charge_automatically"
    method = collection.payment_method(context, invoice) if automatic else None
    invoice_payments.open_default(context, invoice, method)
    if collection.collects_itself(invoice):
        invoice_payment.attempt(context, id, method, automatic=True)
    return context.get("invoice", id)


def void(context: Context, id: str) -> Record:
    """Void an open or uncollectible invoice and give its credit back."""
    _require_collectible(context, id)
    with context.edit("invoice", id, UPDATED) as invoice:
        invoice.update(status="void", auto_advance=False)
        invoice["status_transitions"]["voided_at"] = context.now
    invoice = dict(context.get("invoice", id))
    applied = invoice["ending_balance"] - invoice["starting_balance"]
    if applied:
        _change_balance(context, invoice, -applied, "unapplied_from_invoice")
    context.emit("invoice.voided", invoice)
    invoice_payments.cancel(context, id, "void_invoice")
    collection.on_voided(context, invoice)
    return invoice


def mark_uncollectible(context: Context, id: str) -> Record:
    """Write an open invoice off; it can still be paid. Raises a 400."""
    if context.get("invoice", id)["status"] != "open":
        raise _not_open()
    with context.edit("invoice", id, UPDATED) as invoice:
        invoice.update(status="uncollectible", auto_advance=False)
        invoice["status_transitions"]["marked_uncollectible_at"] = context.now
        invoice["status_details"] = {"uncollectible": {"reason": "user_forgiven"}}
    invoice = dict(context.get("invoice", id))
    context.emit("invoice.marked_uncollectible", invoice)
    collection.on_uncollectible(context, invoice)
    return invoice


def stop_collection(context: Context, customer: str) -> None:
    """Stop automatic collection of the customer's finalized invoices.

    Source: API reference, "Cancel a subscription".
    """
    for invoice in list(context.store.scan("invoice", index=("customer", customer))):
        if invoice["status"] == "open" and invoice["auto_advance"]:
            with context.edit("invoice", invoice["id"], UPDATED) as draft:
                draft["auto_advance"] = False


def _open(context: Context, invoice: dict[str, Any]) -> None:
    customer = _customer(context, invoice["customer"])
    invoice.update(totals(invoice["_lines"], customer["balance"]))
    sequence = _take_number(context, customer)
    token = context.ids.new("test", 32)
    url = f"https://invoice.stripe.com/i/acct_sandbox/{token}"
    invoice.update(
        automatically_finalizes_at=None,
        attempted=invoice["collection_method"] == "send_invoice",
        effective_at=context.now,
        ending_balance=settle(
            total=invoice["total"], balance=invoice["starting_balance"]
        ).ending_balance,
        hosted_invoice_url=url,
        invoice_pdf=f"https://pay.stripe.com/invoice/acct_sandbox/{token}/pdf",
        number=f"{customer['invoice_prefix']}-{sequence:04d}",
        status="open",
    )
    invoice["status_transitions"]["finalized_at"] = context.now
    if invoice["collection_method"] == "send_invoice" and invoice["due_date"] is None:
        invoice["due_date"] = context.now + (invoice["_days_until_due"] or 0) * DAY


def _take_number(context: Context, customer: Record) -> int:
    number = int(customer["next_invoice_sequence"])
    with context.edit("customer", customer["id"]) as draft:
        details = draft["_last"] if draft.get("deleted") else draft
        details["next_invoice_sequence"] = number + 1
    return number


def _settle_balance(context: Context, invoice: Record) -> None:
    applied = invoice["ending_balance"] - invoice["starting_balance"]
    if applied:
        _change_balance(context, invoice, applied, "applied_to_invoice")


def _change_balance(context: Context, invoice: Record, amount: int, type: str) -> None:
    if _customer(context, invoice["customer"]).get("deleted"):
        return
    balances.change(
        context,
        invoice["customer"],
        amount,
        invoice["currency"],
        type=type,
        invoice=invoice["id"],
    )


def _customer(context: Context, id: str) -> Record:
    """Return the customer; a deleted one's invoices keep its last known details."""
    customer = context.get("customer", id)
    last: Record = customer["_last"] if customer.get("deleted") else customer
    return last


def _require_collectible(context: Context, id: str) -> None:
    if context.get("invoice", id)["status"] not in COLLECTIBLE:
        raise _not_open()


def _not_open() -> StripeError:
    return invalid("You can only pass in open invoices. This invoice isn't open.")


def _due_at(invoice: Record) -> int | None:
    at: int | None = invoice.get("automatically_finalizes_at")
    return at if at and invoice["status"] == "draft" else None


def _run(context: Context, invoice: Record) -> None:
    finalize(context, invoice["id"])


TIMER = Timer(_due_at, _run)
