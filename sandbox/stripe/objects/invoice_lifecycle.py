"""An invoice's way from draft to paid, void or uncollectible.

Source: docs page "Status transitions and finalization". Every change emits
`invoice.updated` and then the event that names it.
"""

from collections.abc import Sequence
from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.cycle import DAY, Period
from sandbox.stripe.objects import (
    addresses,
    balances,
    collection,
    draft_delay,
    invoice_items,
    invoice_payment,
    invoice_payments,
)
from sandbox.stripe.objects.invoice_payment import COLLECTIBLE, UPDATED
from sandbox.stripe.objects.invoice_shape import (
    new_invoice,
    settlement,
    subscription_parent,
    totals,
)
from sandbox.stripe.protocol.errors import StripeError, invalid
from sandbox.stripe.resource import Timer
from sandbox.stripe.store import Record

# Invoices that also bill what is pending on the customer without a subscription
# (SDK, InvoiceItem.create: "added to the next upcoming scheduled invoice").
SCHEDULED = ("subscription_create", "subscription_cycle")


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
    items = _items(context, subscription, reason)
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
    """Store a draft with its invoice items; emit `invoice.created`.

    Days until due count from the creation (SDK, Invoice.create, `days_until_due`).
    """
    set_due_date(invoice)
    invoice_items.attach(context, items, invoice["id"])
    draft_delay.begin(context, invoice)
    return context.insert(invoice, draft_delay.CREATED)


def set_due_date(draft: dict[str, Any]) -> None:
    """Give a draft that is to be sent a due date, if it has none."""
    if draft["collection_method"] == "send_invoice":
        days = draft["_days_until_due"] or 0
        draft["due_date"] = draft["due_date"] or draft["created"] + days * DAY


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
    with context.update("invoice", id, UPDATED) as invoice:
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
    """Void an open or uncollectible invoice and give its balance back. Raises a 400.

    Its amounts stay, and so do its credit notes (assumed: no page says otherwise).
    """
    _require_voidable(context, id)
    with context.update("invoice", id, UPDATED) as invoice:
        invoice.update(status="void", auto_advance=False)
        invoice["status_transitions"]["voided_at"] = context.now
    invoice = dict(context.get("invoice", id))
    applied = invoice["ending_balance"] - invoice["starting_balance"]
    _change_balance(context, invoice, -applied, "unapplied_from_invoice")
    context.emit("invoice.voided", invoice)
    invoice_payments.cancel(context, id, "void_invoice")
    collection.on_voided(context, invoice)
    return invoice


def mark_uncollectible(context: Context, id: str) -> Record:
    """Write an open invoice off; it can still be paid. Raises a 400."""
    status = context.get("invoice", id)["status"]
    if status == "uncollectible":
        raise invalid("This invoice has already been marked uncollectible.")
    if status != "open":
        raise _not_open()
    with context.update("invoice", id, UPDATED) as invoice:
        invoice.update(status="uncollectible", auto_advance=False)
        invoice["status_transitions"]["marked_uncollectible_at"] = context.now
        invoice["status_details"] = {"uncollectible": {"reason": "user_forgiven"}}
    invoice = dict(context.get("invoice", id))
    context.emit("invoice.marked_uncollectible", invoice)
    collection.on_uncollectible(context, invoice)
    return invoice


def send(context: Context, id: str) -> Record:
    """Send an invoice by hand; a draft is finalized first. Raises a 400.

    No mail leaves the sandbox, as in Stripe's test mode: only `invoice.sent` tells.
    """
    invoice = context.get("invoice", id)
    if invoice["collection_method"] != "send_invoice":
        raise invalid(
            "You can only manually send an invoice if its collection method is "
            "'send_invoice'."
        )
    if invoice["status"] == "draft":
        invoice = finalize(context, id)
    if invoice["status"] not in ("open", "paid"):
        raise invalid(
            "This invoice cannot be sent right now. Please contact us via "
            "https://support.stripe.com/contact with details, so we can help."
        )
    context.emit("invoice.sent", invoice)
    return invoice


def stop_collection(context: Context, customer: str) -> None:
    """Stop automatic collection of the customer's finalized invoices.

    Source: API reference, "Cancel a subscription".
    """
    for invoice in list(context.store.scan("invoice", index=("customer", customer))):
        if invoice["status"] == "open" and invoice["auto_advance"]:
            with context.update("invoice", invoice["id"], UPDATED) as draft:
                draft["auto_advance"] = False


def _open(context: Context, invoice: dict[str, Any]) -> None:
    customer = _customer(context, invoice["customer"])
    currency = invoice["currency"]
    invoice.update(totals(invoice["_lines"], customer["balance"], currency))
    sequence = _take_number(context, customer)
    token = context.ids.new("test", 32)
    invoice.update(
        automatically_finalizes_at=None,
        attempted=invoice["collection_method"] == "send_invoice",
        effective_at=context.now,
        ending_balance=settlement(
            invoice["total"], invoice["starting_balance"], currency
        ).ending_balance,
        hosted_invoice_url=addresses.invoice_url(context, token),
        invoice_pdf=f"https://pay.stripe.com/invoice/acct_sandbox/{token}/pdf",
        number=f"{customer['invoice_prefix']}-{sequence:04d}",
        status="open",
        _token=token,
    )
    invoice["status_transitions"]["finalized_at"] = context.now


def _take_number(context: Context, customer: Record) -> int:
    number = int(customer["next_invoice_sequence"])
    with context.update("customer", customer["id"]) as draft:
        details = draft["_last"] if draft.get("deleted") else draft
        details["next_invoice_sequence"] = number + 1
    return number


def _settle_balance(context: Context, invoice: Record) -> None:
    """Draw the balance on the invoice; what was too small to charge goes back on it.

    Source: docs page "Customer invoice balance", types of transactions.
    """
    before, after = invoice["starting_balance"], invoice["ending_balance"]
    carried = settlement(invoice["total"], before, invoice["currency"]).carried
    _change_balance(context, invoice, after - carried - before, "applied_to_invoice")
    _change_balance(context, invoice, carried, "invoice_too_small")


def _change_balance(context: Context, invoice: Record, amount: int, type: str) -> None:
    if not amount:
        return
    if _customer(context, invoice["customer"]).get("deleted"):
        with context.update("customer", invoice["customer"]) as tombstone:
            tombstone["_last"]["balance"] += amount
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


def _items(context: Context, subscription: Record, reason: str) -> list[Record]:
    items = invoice_items.pending(context, subscription["id"])
    if reason in SCHEDULED:
        items += invoice_items.loose(context, subscription["customer"])
        items.sort(key=lambda item: item["created"], reverse=True)
    return items


def _require_voidable(context: Context, id: str) -> None:
    status = context.get("invoice", id)["status"]
    if status == "paid":
        raise invalid("Invoices with `paid` payments cannot be voided.")
    if status not in COLLECTIBLE:
        raise _not_open()


def _not_open() -> StripeError:
    return invalid("You can only pass in open invoices. This invoice isn't open.")


def _due_at(invoice: Record) -> int | None:
    at: int | None = invoice.get("automatically_finalizes_at")
    return at if at and invoice["status"] == "draft" else None


def _run(context: Context, invoice: Record) -> None:
    if not draft_delay.postponed(context, invoice):
        finalize(context, invoice["id"])


TIMER = Timer(_due_at, _run)
