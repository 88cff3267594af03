"""Refunds of a credit note: a new one, or existing ones that it is linked to.

Source: SDK, CreditNote.create (`refund_amount`, `refunds`). That a refund can be linked
up to its amount only, and only to the invoice that its charge paid, is assumed.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.routing import Params
from sandbox.stripe.objects.invoices import payment_records
from sandbox.stripe.objects.reversals import refunds
from sandbox.stripe.store.records import Record

Link = dict[str, Any]


def find(context: Context, invoice: Record, params: Params) -> list[Link]:
    """Return the links to the existing refunds in the parameters. Raises a 400."""
    links: list[Link] = []
    for number, given in enumerate(params.get("refunds", [])):
        param = f"refunds[{number}][refund]"
        refund = context.get_referenced(refunds.KIND, given["refund"], param)
        intent = context.get("payment_intent", refund["payment_intent"])
        left = refund["amount"] - _linked(context, invoice, refund["id"], links)
        amount = given.get("amount_refunded", refund["amount"])
        ended = refund["status"] in refunds.ENDED
        if intent["_invoice"] != invoice["id"] or ended or amount > left:
            raise invalid(
                f"The refund {refund['id']} has nothing left that could be linked to a "
                "credit note of this invoice.",
                param=param,
            )
        links.append(_link(refund["id"], amount))
    return links


def issue(context: Context, invoice: Record, params: Params) -> list[Link]:
    """Refund `refund_amount` and return the link to the refund. Raises a 400."""
    amount = params.get("refund_amount", 0)
    if not amount:
        return []
    charge = payment_records.find_charge(context.store, invoice["id"])
    if charge is None or not charge["paid"]:
        raise invalid(
            "This invoice has no charge that could be refunded.", param="refund_amount"
        )
    return [_link(refunds.issue(context, charge, amount)["id"], amount)]


def _linked(context: Context, invoice: Record, refund: str, new: list[Link]) -> int:
    """Return the amount of a refund that credit notes, or new links, account for."""
    notes = context.store.scan("credit_note", index=("invoice", invoice["id"]))
    issued = (note["refunds"] for note in notes if note["status"] == "issued")
    return sum(
        link["amount_refunded"]
        for links in (new, *issued)
        for link in links
        if link["refund"] == refund
    )


def _link(refund: str, amount: int) -> Link:
    link = {"amount_refunded": amount, "refund": refund, "type": "refund"}
    return {**link, "payment_record_refund": None}
