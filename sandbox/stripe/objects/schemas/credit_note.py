"""Fields of credit notes and their lines (SDK types CreditNote, ...LineItem)."""

from collections.abc import Sequence
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import slice_page
from sandbox.stripe.api.routing import public
from sandbox.stripe.objects.fields import amount_decimal
from sandbox.stripe.store.records import Record, Store

URL = "/v1/credit_notes"


def render(store: Store, record: Record) -> dict[str, Any]:
    """Return the credit note with its first ten lines."""
    lines = slice_page(record["_lines"], f"{URL}/{record['id']}/lines", {})
    return {**public(store, record), "lines": lines}


def type_of(pre_payment: int, post_payment: int) -> str:
    """Return the type of a note: before payment, after payment, or both."""
    if pre_payment and post_payment:
        return "mixed"
    return "pre_payment" if pre_payment else "post_payment"


def new_line(
    context: Context,
    *,
    amount: int,
    description: str | None,
    invoice_line: str | None = None,
    quantity: int | None = None,
    unit_amount: int | None = None,
    metadata: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a line: for a line of the invoice, or a custom one."""
    return {
        "id": context.ids.new("cnli"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": description,
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": invoice_line,
        "livemode": False,
        "metadata": metadata or {},
        "pretax_credit_amounts": [],
        "quantity": quantity,
        "tax_rates": [],
        "taxes": [],
        "type": "invoice_line_item" if invoice_line else "custom_line_item",
        "unit_amount": unit_amount,
        "unit_amount_decimal": amount_decimal(unit_amount),
    }


def new_note(
    context: Context,
    invoice: Record,
    lines: Sequence[dict[str, Any]],
    *,
    number: int,
    pre_payment: int,
    post_payment: int,
) -> dict[str, Any]:
    """Return an issued note with these lines."""
    amount = pre_payment + post_payment
    id, token = context.ids.new("cn"), context.ids.new("test", 32)
    return {
        **_defaults(),
        "id": id,
        "object": "credit_note",
        "amount": amount,
        "created": context.now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "effective_at": context.now,
        "invoice": invoice["id"],
        "number": f"{invoice['number']}-CN-{number:02d}",
        "pdf": f"https://pay.stripe.com/credit_notes/acct_sandbox/{token}/pdf",
        "post_payment_amount": post_payment,
        "pre_payment_amount": pre_payment,
        "status": "issued",
        "subtotal": amount,
        "subtotal_excluding_tax": amount,
        "total": amount,
        "total_excluding_tax": amount,
        "type": type_of(pre_payment, post_payment),
        "_lines": list(lines),
    }


def _defaults() -> dict[str, Any]:
    return {
        "amount_shipping": 0,
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "memo": None,
        "metadata": {},
        "out_of_band_amount": None,
        "pretax_credit_amounts": [],
        "reason": None,
        "refunds": [],
        "shipping_cost": None,
        "total_taxes": [],
        "voided_at": None,
    }
