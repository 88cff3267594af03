"""Endpoints of credit notes (docs: API reference, Credit Notes).

Source of the rules: SDK, CreditNote.create; docs pages "Issue credit notes" and
"Generate credit notes programmatically". The error texts are assumed.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page, slice_page
from sandbox.stripe.api.params import (
    PAGING,
    Array,
    Choice,
    Integer,
    Kind,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.credit_notes import lines as credit_note_lines
from sandbox.stripe.objects.fields import copy_params, merge_metadata, new_metadata
from sandbox.stripe.objects.invoices import pay
from sandbox.stripe.objects.schemas import credit_note
from sandbox.stripe.objects.schemas.credit_note import URL
from sandbox.stripe.store.records import Record

KIND = "credit_note"
OBJECT_URL = f"{URL}/{{id}}"
UPDATED = "invoice.updated"
resource = Resource(KIND, indexes=("customer", "invoice"), render=credit_note.render)

# `email_type` has no effect: the sandbox sends no mail.
FIELDS: dict[str, Kind] = {
    "amount": Integer(1),
    "credit_amount": Integer(0),
    "effective_at": Integer(0),
    "email_type": Choice(("credit_note", "none")),
    "invoice": Text(),
    "lines": Array(credit_note_lines.LINE),
    "memo": Text(unset=True),
    "metadata": Metadata(),
    "out_of_band_amount": Integer(0),
    "reason": Choice(
        ("duplicate", "fraudulent", "order_change", "product_unsatisfactory")
    ),
    "refund_amount": Integer(0),
}
CREATE = Shape(FIELDS, required=("invoice",))


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Issue a note. It first reduces the amount due; any excess is given back.

    An open invoice reduced to zero becomes paid without a payment attempt: Stripe
    emits `invoice.paid` but no `invoice.payment_succeeded`. Raises a 400.
    """
    note = _build_note(context, params)
    if params.get("credit_amount"):
        # Before the insert: `credit_note.created` carries the transaction's id.
        note["customer_balance_transaction"] = _credit_balance(context, note, params)
    context.insert(note, "credit_note.created")
    _apply(context, note, sign=1)
    invoice = context.get("invoice", note["invoice"])
    if invoice["status"] == "open" and invoice["amount_remaining"] == 0:
        pay.mark_paid(context, invoice["id"], off_stripe=True)
    return note


@resource.get(f"{URL}/preview", CREATE)
def preview(context: Context, params: Params) -> Record:
    """Return the note that `create` would issue, without storing it. Raises a 400."""
    return _build_note(context, params)


@resource.get(
    f"{URL}/preview/lines", Shape({**FIELDS, **PAGING}, required=("invoice",))
)
def preview_lines(context: Context, params: Params) -> Record:
    """Return the lines of a previewed note, in pages. Raises a 400."""
    note = _build_note(context, params)
    return slice_page(note["_lines"], f"{URL}/preview/lines", params)


@resource.get(URL, listing(created=Range(), customer=Text(), invoice=Text()))
def list_(context: Context, params: Params) -> Record:
    """Return credit notes, newest first."""
    customer, invoice = params.get("customer"), params.get("invoice")
    index = ("invoice", invoice) if invoice else None
    if customer and not index:
        index = ("customer", customer)
    return page(
        context.store,
        KIND,
        URL,
        params,
        index=index,
        where=lambda note: customer in (None, note["customer"]),
    )


@resource.get(OBJECT_URL, Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a credit note. Raises a 404."""
    return context.get(KIND, id)


@resource.get(f"{OBJECT_URL}/lines", listing())
def list_lines(context: Context, params: Params, id: str) -> Record:
    """Return all lines, in pages. Raises a 404."""
    return slice_page(context.get(KIND, id)["_lines"], f"{URL}/{id}/lines", params)


@resource.post(OBJECT_URL, Shape({name: FIELDS[name] for name in ("memo", "metadata")}))
def update(context: Context, params: Params, id: str) -> Record:
    """Update the memo or metadata. Raises a 404."""
    with context.update(KIND, id, "credit_note.updated") as note:
        copy_params(note, params, "memo")
        if "metadata" in params:
            note["metadata"] = merge_metadata(note["metadata"], params["metadata"])
    return context.get(KIND, id)


@resource.post(f"{OBJECT_URL}/void", Shape())
def void(context: Context, params: Params, id: str) -> Record:
    """Void a note while its invoice is open, and restore the amount due.

    Raises a 400 or a 404.
    """
    note = context.get(KIND, id)
    if note["status"] == "void":
        raise invalid("This credit note has already been voided.")
    if context.get("invoice", note["invoice"])["status"] != "open":
        raise invalid("You can only void a credit note on an open invoice.")
    with context.update(KIND, id) as draft:
        draft.update(status="void", voided_at=context.now)
    voided = context.get(KIND, id)
    context.emit("credit_note.voided", voided)
    _apply(context, voided, sign=-1)
    return voided


def _build_note(context: Context, params: Params) -> dict[str, Any]:
    """Return the note for these parameters, without storing it. Raises a 400."""
    invoice = context.get_referenced("invoice", params["invoice"], "invoice")
    notes = list(context.store.scan(KIND, index=("invoice", invoice["id"])))
    _check_invoice(invoice, params)
    issued = [note for note in notes if note["status"] == "issued"]
    lines = credit_note_lines.build_lines(context, params, invoice, issued)
    pre_payment, post_payment = _split(invoice, sum(line["amount"] for line in lines))
    _check_post_payment(params, post_payment)
    note = credit_note.new_note(
        context,
        invoice,
        lines,
        # Voided notes count too: their numbers are not reused.
        number=len(notes) + 1,
        pre_payment=pre_payment,
        post_payment=post_payment,
    )
    copy_params(note, params, "effective_at", "memo", "out_of_band_amount", "reason")
    note["metadata"] = new_metadata(params)
    return note


def _check_invoice(invoice: Record, params: Params) -> None:
    if params.get("refund_amount"):
        raise invalid(
            "The sandbox does not model refunds; use `credit_amount` or "
            "`out_of_band_amount`.",
            param="refund_amount",
        )
    if invoice["status"] not in ("open", "paid"):
        raise invalid(
            "Credit notes can only be created for open or paid invoices; this invoice "
            f"is {invoice['status']}.",
            param="invoice",
        )


def _split(invoice: Record, amount: int) -> tuple[int, int]:
    """Return the pre-payment and post-payment parts of the amount. Raises a 400."""
    creditable = (
        invoice["total"]
        - invoice["pre_payment_credit_notes_amount"]
        - invoice["post_payment_credit_notes_amount"]
    )
    if amount <= 0:
        raise invalid("The amount of a credit note must be positive.")
    if amount > creditable:
        raise invalid(
            f"The credit note amount {amount} is more than what is left to credit on "
            f"this invoice: {max(creditable, 0)}."
        )
    remaining = invoice["amount_remaining"] if invoice["status"] == "open" else 0
    pre_payment = min(amount, remaining)
    return pre_payment, amount - pre_payment


def _check_post_payment(params: Params, post_payment: int) -> None:
    """Raise a 400 unless the parameters allocate exactly the post-payment amount."""
    allocated = params.get("credit_amount", 0) + params.get("out_of_band_amount", 0)
    if allocated != post_payment:
        raise invalid(
            "The sum of `credit_amount`, `out_of_band_amount` and refunds must equal "
            f"the post-payment amount of the credit note: {allocated} is not "
            f"{post_payment}."
        )


def _credit_balance(context: Context, note: Record, params: Params) -> str:
    # A 400 for a deleted customer, whose balance cannot change any more.
    context.get_referenced("customer", note["customer"], "credit_amount")
    transaction = balance_transactions.adjust(
        context,
        note["customer"],
        -params["credit_amount"],
        note["currency"],
        type=KIND,
        invoice=note["invoice"],
        credit_note=note["id"],
    )
    return str(transaction["id"])


def _apply(context: Context, note: Record, *, sign: int) -> None:
    """Apply the note to its invoice, or undo it with `sign=-1`."""
    pre_payment = sign * note["pre_payment_amount"]
    with context.update("invoice", note["invoice"], UPDATED) as invoice:
        invoice["amount_due"] -= pre_payment
        invoice["amount_remaining"] -= pre_payment
        invoice["pre_payment_credit_notes_amount"] += pre_payment
        invoice["post_payment_credit_notes_amount"] += (
            sign * note["post_payment_amount"]
        )
