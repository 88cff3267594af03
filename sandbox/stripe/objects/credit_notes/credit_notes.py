"""Credit notes (docs: API reference, Credit Notes; SDK type CreditNote).

Source of the rules: SDK, CreditNote.create; docs pages "Issue credit notes" and
"Generate credit notes programmatically". The error texts are assumed. A note credits
an amount of the whole invoice, not of its lines.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import slice_page
from sandbox.stripe.api.params import (
    Array,
    Choice,
    Hash,
    Integer,
    Metadata,
    Shape,
    Text,
)
from sandbox.stripe.api.routing import Params, Resource, public
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.credit_notes import linked_refunds, note_taxes
from sandbox.stripe.objects.fields import (
    check_amount,
    copy_params,
    empty_lists,
    nulls,
    zeros,
)
from sandbox.stripe.objects.invoices import pay, payment_records
from sandbox.stripe.objects.schemas import invoice_amounts
from sandbox.stripe.objects.schemas.invoice_amounts import is_exclusive
from sandbox.stripe.store.records import Record, Store

KIND = "credit_note"
URL = "/v1/credit_notes"
OBJECT_URL = f"{URL}/{{id}}"
CREATE = Shape(
    {
        "amount": Integer(1),
        "credit_amount": Integer(0),
        "email_type": Choice(("credit_note", "none")),
        "invoice": Text(),
        "memo": Text(unset=True),
        "metadata": Metadata(),
        "out_of_band_amount": Integer(0),
        "reason": Choice(
            ("duplicate", "fraudulent", "order_change", "product_unsatisfactory")
        ),
        "refund_amount": Integer(0),
        "refunds": Array(
            Hash(
                {
                    "amount_refunded": Integer(1),
                    "refund": Text(),
                    "type": Choice(("refund",)),
                },
                required=("refund",),
            )
        ),
    },
    required=("invoice", "amount"),
)
INITIAL = {
    **nulls(
        "customer_account customer_balance_transaction memo out_of_band_amount reason "
        "shipping_cost voided_at"
    ),
    **empty_lists("discount_amounts pretax_credit_amounts"),
    **zeros("amount_shipping discount_amount"),
}
UNUSED_IN_LINES = {
    **nulls("description"),
    **empty_lists("discount_amounts pretax_credit_amounts"),
    **zeros("discount_amount"),
}
# With linked refunds these make up the amount that exceeds what remained to be paid.
ALLOCATIONS = ("credit_amount", "out_of_band_amount", "refund_amount")


def _render(store: Store, record: Record) -> dict[str, Any]:
    lines = [_render_line(store, line) for line in record["_lines"]]
    page = slice_page(lines, f"{URL}/{record['id']}/lines", {})
    return {**public(store, record), "lines": page}


def _render_line(store: Store, line: Record) -> dict[str, Any]:
    rates = tax_rates.render_all(store, invoice_amounts.tax_rates_of(line))
    return {**public(store, line), "tax_rates": rates}


resource = Resource(KIND, indexes=("customer", "invoice"), render=_render)
resource.listable(URL, invoice=Text(), customer=Text())
resource.retrievable(URL)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Issue a note. It first reduces the amount due; any excess is given back.

    An invoice reduced to zero becomes paid without a payment attempt: Stripe
    emits `invoice.paid` but no `invoice.payment_succeeded`. Raises a 400.
    """
    invoice = context.get_referenced("invoice", params["invoice"], "invoice")
    refunds = linked_refunds.find(context, invoice, params)
    pre_payment, post_payment = _split(context, invoice, params, refunds)
    note = _new_note(context, invoice, pre_payment, post_payment)
    copy_params(note, params, "memo", "metadata", "out_of_band_amount", "reason")
    # The default is to send it (SDK, CreditNote.create, `email_type`).
    note["_email_type"] = params.get("email_type", "credit_note")
    note["refunds"] = linked_refunds.issue(context, invoice, params) + refunds
    if params.get("credit_amount"):
        # Before the insert: `credit_note.created` carries the transaction's id.
        note["customer_balance_transaction"] = _credit_balance(context, note, params)
    context.insert(note, "credit_note.created")
    _apply(context, note, sign=1)
    invoice = context.get("invoice", invoice["id"])
    if invoice["status"] != "paid" and invoice["amount_remaining"] == 0:
        pay.mark_paid(context, invoice["id"], off_stripe=True)
    return note


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
    payment_records.check_not_processing(context, note["invoice"])
    voided = context.change(KIND, id, status="void", voided_at=context.now)
    context.emit("credit_note.voided", voided)
    _apply(context, voided, sign=-1)
    return voided


def _split(
    context: Context,
    invoice: Record,
    params: Params,
    refunds: list[linked_refunds.Link],
) -> tuple[int, int]:
    """Return the pre-payment and post-payment parts of the amount. Raises a 400."""
    amount = params["amount"]
    _check_status(context, invoice)
    check_amount(amount, invoice["currency"], "amount")
    creditable = (
        invoice["total"]
        - invoice["pre_payment_credit_notes_amount"]
        - invoice["post_payment_credit_notes_amount"]
    )
    if amount > creditable:
        raise invalid(
            f"The credit note amount {amount} is more than what is left to credit on "
            f"this invoice: {max(creditable, 0)}."
        )
    pre_payment = min(amount, invoice["amount_remaining"])
    if pre_payment:
        payment_records.check_not_processing(context, invoice["id"])
    allocated = sum(params.get(name, 0) for name in ALLOCATIONS)
    allocated += sum(refund["amount_refunded"] for refund in refunds)
    if allocated != amount - pre_payment:
        raise invalid(
            "The sum of credit amount, refund amount and out of band amount must equal "
            f"the post-payment amount of the credit note: {allocated} is not "
            f"{amount - pre_payment}."
        )
    return pre_payment, amount - pre_payment


def _check_status(context: Context, invoice: Record) -> None:
    """Raise a 400 unless the invoice is open or paid.

    Docs page "Issue credit notes": for open and paid invoices. Users report that it
    also works for uncollectible ones: hence the setting.
    """
    allowed = ["open", "paid"]
    if context.settings.credit_uncollectible == "allowed":
        allowed.append("uncollectible")
    if invoice["status"] not in allowed:
        raise invalid(
            "Credit notes can only be created for open or paid invoices; this invoice "
            f"is {invoice['status']}.",
            param="invoice",
        )


def _new_note(
    context: Context, invoice: Record, pre_payment: int, post_payment: int
) -> dict[str, Any]:
    amount = pre_payment + post_payment
    # Voided notes count too: their numbers are not reused.
    number = 1 + len(list(context.store.scan(KIND, index=("invoice", invoice["id"]))))
    token = context.ids.new("test", 32)
    type = "pre_payment" if pre_payment else "post_payment"
    taxes = note_taxes.split(context, invoice, amount)
    exclusive = sum(tax["amount"] for tax in taxes if is_exclusive(tax))
    total_tax = sum(tax["amount"] for tax in taxes)
    return {
        **INITIAL,
        **context.new(KIND, "cn"),
        "amount": amount,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "effective_at": context.now,
        "invoice": invoice["id"],
        "metadata": {},
        "number": f"{invoice['number']}-CN-{number:02d}",
        "pdf": f"https://pay.stripe.com/credit_notes/{context.account}/{token}/pdf",
        "post_payment_amount": post_payment,
        "pre_payment_amount": pre_payment,
        "status": "issued",
        "subtotal": amount - exclusive,
        "subtotal_excluding_tax": amount - total_tax,
        "total": amount,
        "total_excluding_tax": amount - total_tax,
        "total_taxes": taxes,
        "type": "mixed" if pre_payment and post_payment else type,
        "_lines": [_new_line(context, amount - exclusive, taxes)],
    }


def _new_line(
    context: Context, amount: int, taxes: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the only line of a note, a custom one (assumed)."""
    return {
        "id": context.ids.new("cnli"),
        "object": "credit_note_line_item",
        **UNUSED_IN_LINES,
        "amount": amount,
        "livemode": context.livemode,
        "metadata": {},
        "quantity": 1,
        "taxes": taxes,
        "type": "custom_line_item",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }


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
    post_payment = sign * note["post_payment_amount"]
    with context.update("invoice", note["invoice"], "invoice.updated") as invoice:
        invoice["amount_due"] -= pre_payment
        invoice["amount_remaining"] -= pre_payment
        invoice["pre_payment_credit_notes_amount"] += pre_payment
        invoice["post_payment_credit_notes_amount"] += post_payment
