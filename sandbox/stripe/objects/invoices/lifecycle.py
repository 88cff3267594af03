"""Life cycle of an invoice, from draft to paid, void or uncollectible.

Source: docs page "Status transitions and finalization". Each transition
emits `invoice.updated`, then its own event.
"""

from collections.abc import Sequence
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.clock.periods import DAY, Period
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.invoices import (
    collection,
    finalization_delay,
    finalization_failure,
    pay,
    payment_records,
)
from sandbox.stripe.objects.invoices import items as invoice_items
from sandbox.stripe.objects.invoices.pay import COLLECTIBLE, UPDATED
from sandbox.stripe.objects.schemas import invoice_amounts
from sandbox.stripe.objects.schemas.invoice import new_invoice, subscription_parent
from sandbox.stripe.objects.schemas.invoice_amounts import compute_amount_due
from sandbox.stripe.store.records import Record

# These invoices also include the customer's pending items without a subscription
# (SDK, InvoiceItem.create: "added to the next upcoming scheduled invoice").
SCHEDULED = ("subscription_create", "subscription_cycle")


def bill_subscription(
    context: Context,
    subscription: Record,
    lines: Sequence[dict[str, Any]] = (),
    *,
    reason: str = "subscription_update",
    period: Period,
) -> Record | None:
    """Create a draft with the pending items, then these lines; None if both are empty.

    Both are sorted newest first, as Stripe does.
    """
    items = _pending_items(context, subscription, reason)
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
            *(invoice_items.new_line_for(context, item) for item in items),
            *reversed(lines),
        ],
        parent=subscription_parent(subscription),
        discounts=discounts.of_subscription(context, subscription),
        default_tax_rates=subscription["_default_tax_rates"],
    )
    invoice["_days_until_due"] = subscription["days_until_due"]
    # While a subscription is unpaid, its new invoices stay drafts (docs page "How
    # subscriptions work"); paused collection is up to `paused_collection`.
    held = subscription["status"] == "unpaid" or subscription["pause_collection"]
    invoice["auto_advance"] = not held
    return add(context, invoice, items)


def add(context: Context, invoice: dict[str, Any], items: list[Record]) -> Record:
    """Store a draft with its invoice items; emit `invoice.created`."""
    set_due_date(invoice)
    invoice_items.attach(context, items, invoice["id"])
    finalization_delay.schedule(context, invoice)
    created = context.insert(invoice, finalization_delay.CREATED)
    discounts.consume(context, created, updating=created["_subscription"])
    return created


def set_due_date(draft: dict[str, Any]) -> None:
    """Set the due date of a `send_invoice` draft that has none.

    Days until due count from the creation (SDK, Invoice.create, `days_until_due`).
    """
    if draft["collection_method"] == "send_invoice":
        days = draft["_days_until_due"] or 0
        draft["due_date"] = draft["due_date"] or draft["created"] + days * DAY


def finalize(context: Context, id: str, auto_advance: bool | None = None) -> Record:
    """Finalize a draft: assign its number and apply the customer balance.

    An invoice with nothing due becomes paid; under automatic collection it is charged.
    If it cannot be finalized, it stays a draft. Raises a 400 for another status.
    """
    draft = context.get("invoice", id)
    if draft["status"] != "draft":
        raise invalid(
            "This invoice is already finalized, you can't re-finalize a non-draft "
            "invoice.",
            code="invoice_not_editable",
        )
    if finalization_failure.record(context, draft):
        return context.get("invoice", id)
    with context.update("invoice", id, UPDATED) as invoice:
        _open(context, invoice)
        if auto_advance is not None:
            invoice["auto_advance"] = auto_advance
    context.emit("invoice.finalized", invoice)
    _post_balance(context, invoice)
    # Paid by the balance, negative, or below the minimum charge.
    if invoice["amount_due"] == 0:
        pay.mark_paid(context, id, off_stripe=False)
        return context.get("invoice", id)
    automatic = invoice["collection_method"] == "charge_automatically"
    payment_records.create_default(context, invoice)
    if automatic and invoice["auto_advance"]:
        method = collection.payment_method(context, invoice)
        pay.attempt(context, id, method, automatic=True)
    return context.get("invoice", id)


def void_draft(context: Context, id: str) -> None:
    """Void a draft at once; the customer balance is not used."""
    with context.update("invoice", id, UPDATED) as invoice:
        _open(context, invoice, balance=0)
    # A negative total, or one below the minimum charge: voiding takes it back.
    _post_balance(context, invoice)
    void(context, id)


def void(context: Context, id: str) -> Record:
    """Void an open or uncollectible invoice and restore the balance. Raises a 400.

    Its amounts and credit notes stay as they are (assumed: no page says otherwise).
    """
    status = context.get("invoice", id)["status"]
    if status == "paid":
        raise invalid("Invoices with `paid` payments cannot be voided.")
    if status not in COLLECTIBLE:
        raise _not_open()
    payment_records.check_not_processing(context, id)
    with context.update("invoice", id, UPDATED) as invoice:
        invoice.update(status="void", auto_advance=False)
        invoice["status_transitions"]["voided_at"] = context.now
    applied = invoice["ending_balance"] - invoice["starting_balance"]
    _adjust_balance(context, invoice, -applied, "unapplied_from_invoice")
    context.emit("invoice.voided", invoice)
    payment_records.cancel(context, id, "void_invoice")
    # `delinquent` stays: only paying or writing off resets it (SDK docstring).
    collection.on_written_off(context, invoice)
    return invoice


def mark_uncollectible(
    context: Context, id: str, *, reason: str = "user_forgiven"
) -> Record:
    """Mark an open invoice uncollectible; it can still be paid. Raises a 400."""
    status = context.get("invoice", id)["status"]
    if status == "uncollectible":
        raise invalid("This invoice has already been marked uncollectible.")
    if status != "open":
        raise _not_open()
    with context.update("invoice", id, UPDATED) as invoice:
        invoice.update(status="uncollectible", auto_advance=False)
        invoice["status_transitions"]["marked_uncollectible_at"] = context.now
        invoice["status_details"] = {"uncollectible": {"reason": reason}}
    context.emit("invoice.marked_uncollectible", invoice)
    collection.on_written_off(context, invoice)
    collection.set_delinquent(context, invoice["customer"], False)
    return invoice


def stop_collection(context: Context, customer: str) -> None:
    """Stop automatic collection of the customer's open invoices.

    Source: API reference, "Cancel a subscription".
    """
    for invoice in list(context.store.scan("invoice", index=("customer", customer))):
        if invoice["status"] == "open" and invoice["auto_advance"]:
            context.change("invoice", invoice["id"], UPDATED, auto_advance=False)


def _open(
    context: Context, invoice: dict[str, Any], *, balance: int | None = None
) -> None:
    customer = _customer(context, invoice["customer"])
    currency = invoice["currency"]
    balance = customer["balance"] if balance is None else balance
    invoice.update(invoice_amounts.due(invoice, balance))
    sequence = _next_number(context, customer)
    token = context.ids.new("test", 32)
    invoice.update(
        automatically_finalizes_at=None,
        effective_at=context.now,
        ending_balance=compute_amount_due(
            invoice["total"], invoice["starting_balance"], currency
        ).ending_balance,
        hosted_invoice_url=f"{context.public_url}{page_urls.INVOICE_PATH}{token}",
        # SDK: cleared when the invoice is successfully finalized.
        last_finalization_error=None,
        invoice_pdf=f"https://pay.stripe.com/invoice/{context.account}/{token}/pdf",
        number=f"{customer['invoice_prefix']}-{sequence:04d}",
        status="open",
        _token=token,
    )
    invoice["status_transitions"]["finalized_at"] = context.now


def _next_number(context: Context, customer: Record) -> int:
    number = int(customer["next_invoice_sequence"])
    with context.update("customer", customer["id"]) as draft:
        fields = draft["_last"] if draft.get("deleted") else draft
        fields["next_invoice_sequence"] = number + 1
    return number


def _post_balance(context: Context, invoice: Record) -> None:
    """Add balance transactions: for the applied balance, and an amount too small.

    Source: docs page "Customer invoice balance", types of transactions.
    """
    before, after = invoice["starting_balance"], invoice["ending_balance"]
    total, currency = invoice["total"], invoice["currency"]
    carried = compute_amount_due(total, before, currency).carried
    _adjust_balance(context, invoice, after - carried - before, "applied_to_invoice")
    _adjust_balance(context, invoice, carried, "invoice_too_small")


def _adjust_balance(context: Context, invoice: Record, amount: int, type: str) -> None:
    if not amount:
        return
    if _customer(context, invoice["customer"]).get("deleted"):
        with context.update("customer", invoice["customer"]) as tombstone:
            tombstone["_last"]["balance"] += amount
        return
    balance_transactions.adjust(
        context,
        invoice["customer"],
        amount,
        invoice["currency"],
        type=type,
        invoice=invoice["id"],
    )


def _customer(context: Context, id: str) -> Record:
    """Return the customer, or the last state of a deleted one."""
    customer = context.get("customer", id)
    fields: Record = customer["_last"] if customer.get("deleted") else customer
    return fields


def _pending_items(context: Context, subscription: Record, reason: str) -> list[Record]:
    items = invoice_items.pending(context, subscription["id"])
    if reason in SCHEDULED:
        items += invoice_items.pending_without_subscription(
            context, subscription["customer"]
        )
        items.sort(key=lambda item: item["created"], reverse=True)
    return items


def _not_open() -> StripeError:
    return invalid("You can only pass in open invoices. This invoice isn't open.")


def _due_at(invoice: Record) -> int | None:
    at: int | None = invoice.get("automatically_finalizes_at")
    return at if at and invoice["status"] == "draft" else None


def _run(context: Context, invoice: Record) -> None:
    if not finalization_delay.postpone_if_undelivered(context, invoice):
        finalize(context, invoice["id"])


TIMER = Timer(_due_at, _run)
