"""What a credit note credits: lines of the invoice, or free amounts.

Source: docs page "Generate credit notes programmatically"; SDK, CreditNote.create.
The wordings are assumed, no page has them.
"""

from collections.abc import Iterable
from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.money import divide_half_down
from sandbox.stripe.objects.credit_note_shape import new_line
from sandbox.stripe.objects.fields import check_amount, new_metadata
from sandbox.stripe.protocol.errors import StripeError, invalid, missing, rejected
from sandbox.stripe.protocol.params import Choice, Hash, Integer, Metadata, Text
from sandbox.stripe.resource import Params
from sandbox.stripe.store import Record

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
# Which of the parameters each type of line has.
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


def read(
    context: Context, params: Params, invoice: Record, notes: Iterable[Record]
) -> list[dict[str, Any]]:
    """Return the lines of a new note, given the invoice's other ones. Raises a 400.

    An `amount` alone becomes one custom line (assumed).
    """
    if ("amount" in params) == ("lines" in params):
        raise invalid("You must specify exactly one of `amount` or `lines`.")
    if "amount" in params:
        check_amount(params["amount"], invoice["currency"], "amount")
        return [_custom(context, params["amount"], {})]
    credited = [line for note in notes for line in note["_lines"]]
    lines: list[dict[str, Any]] = []
    for number, given in enumerate(params["lines"]):
        name = f"lines[{number}]"
        _check_fields(given, name)
        if given["type"] == "custom_line_item":
            line = _custom(context, _required(given, "unit_amount", name), given)
        else:
            line = _of_invoice(context, given, invoice, [*credited, *lines], name)
        check_amount(line["amount"], invoice["currency"], name)
        lines.append(line)
    return lines


def _custom(context: Context, unit_amount: int, given: Params) -> dict[str, Any]:
    quantity = given.get("quantity", 1)
    return new_line(
        context,
        amount=unit_amount * quantity,
        description=given.get("description"),
        quantity=quantity,
        unit_amount=unit_amount,
        metadata=new_metadata(given),
    )


def _of_invoice(
    context: Context,
    given: Params,
    invoice: Record,
    credited: list[dict[str, Any]],
    name: str,
) -> dict[str, Any]:
    id = _required(given, "invoice_line_item", name)
    billed = next((line for line in invoice["_lines"] if line["id"] == id), None)
    if billed is None:
        param = f"{name}[invoice_line_item]"
        raise missing("invoice line item", id, param=param, status=400)
    before = [line for line in credited if line["invoice_line_item"] == id]
    amount, quantity = _share(given, billed, before, name)
    line = new_line(
        context,
        amount=amount,
        description=billed["description"],
        invoice_line=id,
        quantity=quantity,
        unit_amount=divide_half_down(billed["amount"], billed["quantity"])
        if quantity
        else None,
        metadata=new_metadata(given),
    )
    _check_left(billed, [*before, line], name)
    return line


def _share(
    given: Params, billed: Record, before: list[dict[str, Any]], name: str
) -> tuple[int, int | None]:
    """Return amount and quantity to credit of a line, by one of them."""
    if ("amount" in given) == ("quantity" in given):
        raise invalid(
            "You must specify exactly one of `amount` or `quantity` of an invoice "
            "line item.",
            param=name,
        )
    if any(("quantity" in given) == (line["quantity"] is None) for line in before):
        raise invalid(
            "An invoice line item can be credited by amount or by quantity, but not "
            "by both.",
            param=name,
        )
    if "amount" in given:
        return given["amount"], None
    if not billed["quantity"]:
        raise invalid("This invoice line item has no quantity.", param=name)
    # Rounded as a whole, so that all parts together are the line's amount.
    so_far = sum(line["quantity"] for line in before) + given["quantity"]
    whole = divide_half_down(billed["amount"] * so_far, billed["quantity"])
    return whole - sum(line["amount"] for line in before), given["quantity"]


def _check_left(billed: Record, lines: list[dict[str, Any]], name: str) -> None:
    """Raise a 400 when lines credit more than was billed, or with the other sign."""
    total = sum(line["amount"] for line in lines)
    quantity = sum(line["quantity"] or 0 for line in lines)
    low, high = sorted((0, billed["amount"]))
    same_sign = lines[-1]["amount"] * billed["amount"] >= 0
    if not (
        same_sign and low <= total <= high and quantity <= (billed["quantity"] or 0)
    ):
        raise invalid(
            "The amount to credit is more than what is left of the invoice line "
            f"item: {billed['id']}",
            param=name,
        )


def _check_fields(given: Params, name: str) -> None:
    extra = sorted(set(given) - ALLOWED[given["type"]])
    if extra:
        raise rejected(
            f"`{extra[0]}` is not valid for a line of type `{given['type']}`.",
            param=f"{name}[{extra[0]}]",
        )


def _required(given: Params, field: str, name: str) -> Any:
    if field not in given:
        raise _absent(f"{name}[{field}]")
    return given[field]


def _absent(param: str) -> StripeError:
    return rejected(
        f"Missing required param: {param}.", param=param, code="parameter_missing"
    )
