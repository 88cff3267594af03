"""Lines of a credit note: for lines of the invoice, or custom ones.

Source: docs page "Generate credit notes programmatically"; SDK, CreditNote.create.
The error texts are assumed: no page has them.
"""

from collections.abc import Iterable
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing, rejected
from sandbox.stripe.api.params import Choice, Hash, Integer, Metadata, Text
from sandbox.stripe.api.routing import Params
from sandbox.stripe.money.rounding import divide_half_down
from sandbox.stripe.objects.fields import check_amount, new_metadata
from sandbox.stripe.objects.schemas.credit_note import new_line
from sandbox.stripe.store.records import Record

LINE = Hash(
    {
        "amount": Integer(),
        "description": Text(),
        "invoice_line_item": Text(),
        "metadata": Metadata(),
        "quantity": Integer(1),
        "type": Choice(("custom_line_item", "invoice_line_item")),
        "unit_amount": Integer(0),
    },
    required=("type",),
)
# Parameters accepted for each type of line.
ALLOWED = {
    "custom_line_item": {"description", "metadata", "quantity", "type", "unit_amount"},
    "invoice_line_item": {
        "amount",
        "invoice_line_item",
        "metadata",
        "quantity",
        "type",
    },
}


def build_lines(
    context: Context, params: Params, invoice: Record, notes: Iterable[Record]
) -> list[dict[str, Any]]:
    """Return the lines of a new note; `notes` are the invoice's others. Raises a 400.

    An `amount` alone becomes one custom line (assumed).
    """
    if ("amount" in params) == ("lines" in params):
        raise invalid("You must specify exactly one of `amount` or `lines`.")
    if "amount" in params:
        check_amount(params["amount"], invoice["currency"], "amount")
        return [_custom_line(context, params["amount"], {})]
    credited = [line for note in notes for line in note["_lines"]]
    lines: list[dict[str, Any]] = []
    for number, line_params in enumerate(params["lines"]):
        name = f"lines[{number}]"
        _check_fields(line_params, name)
        if line_params["type"] == "custom_line_item":
            unit_amount = _required(line_params, "unit_amount", name)
            line = _custom_line(context, unit_amount, line_params)
        else:
            before = [*credited, *lines]
            line = _invoice_line(context, line_params, invoice, before, name)
        check_amount(line["amount"], invoice["currency"], name)
        lines.append(line)
    return lines


def _custom_line(context: Context, unit_amount: int, params: Params) -> dict[str, Any]:
    quantity = params.get("quantity", 1)
    return new_line(
        context,
        amount=unit_amount * quantity,
        description=params.get("description"),
        quantity=quantity,
        unit_amount=unit_amount,
        metadata=new_metadata(params),
    )


def _invoice_line(
    context: Context,
    params: Params,
    invoice: Record,
    credited: list[dict[str, Any]],
    name: str,
) -> dict[str, Any]:
    id = _required(params, "invoice_line_item", name)
    invoice_line = next((line for line in invoice["_lines"] if line["id"] == id), None)
    if invoice_line is None:
        param = f"{name}[invoice_line_item]"
        raise missing("invoice line item", id, param=param, status=400)
    before = [line for line in credited if line["invoice_line_item"] == id]
    amount, quantity = _amount_and_quantity(params, invoice_line, before, name)
    line = new_line(
        context,
        amount=amount,
        description=invoice_line["description"],
        invoice_line=id,
        quantity=quantity,
        unit_amount=divide_half_down(invoice_line["amount"], invoice_line["quantity"])
        if quantity
        else None,
        metadata=new_metadata(params),
    )
    _check_remaining(invoice_line, [*before, line], name)
    return line


def _amount_and_quantity(
    params: Params, invoice_line: Record, before: list[dict[str, Any]], name: str
) -> tuple[int, int | None]:
    """Return amount and quantity to credit; only one may be sent. Raises a 400."""
    if ("amount" in params) == ("quantity" in params):
        raise invalid(
            "You must specify exactly one of `amount` or `quantity` of an invoice "
            "line item.",
            param=name,
        )
    if any(("quantity" in params) == (line["quantity"] is None) for line in before):
        raise invalid(
            "An invoice line item can be credited by amount or by quantity, but not "
            "by both.",
            param=name,
        )
    if "amount" in params:
        return params["amount"], None
    if not invoice_line["quantity"]:
        raise invalid("This invoice line item has no quantity.", param=name)
    # Round the running total, not each part: the parts must add up to the line.
    quantity = sum(line["quantity"] for line in before) + params["quantity"]
    total = divide_half_down(
        invoice_line["amount"] * quantity, invoice_line["quantity"]
    )
    return total - sum(line["amount"] for line in before), params["quantity"]


def _check_remaining(
    invoice_line: Record, lines: list[dict[str, Any]], name: str
) -> None:
    """Raise a 400 if lines credit more than was billed, or with the wrong sign."""
    total = sum(line["amount"] for line in lines)
    quantity = sum(line["quantity"] or 0 for line in lines)
    # A negative line is credited with negative amounts.
    low, high = sorted((0, invoice_line["amount"]))
    same_sign = lines[-1]["amount"] * invoice_line["amount"] >= 0
    if not (
        same_sign
        and low <= total <= high
        and quantity <= (invoice_line["quantity"] or 0)
    ):
        raise invalid(
            "The amount to credit is more than what is left of the invoice line "
            f"item: {invoice_line['id']}",
            param=name,
        )


def _check_fields(params: Params, name: str) -> None:
    extra = sorted(set(params) - ALLOWED[params["type"]])
    if extra:
        raise rejected(
            f"`{extra[0]}` is not valid for a line of type `{params['type']}`.",
            param=f"{name}[{extra[0]}]",
        )


def _required(params: Params, field: str, name: str) -> Any:
    if field not in params:
        param = f"{name}[{field}]"
        raise rejected(
            f"Missing required param: {param}.", param=param, code="parameter_missing"
        )
    return params[field]
