"""Taxes in a credit note over an amount.

The amount includes tax (SDK, CreditNote.amount). Whether Stripe splits a note over an
amount, without lines, into net and taxes could not be found: hence the setting.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.money.rounding import divide_half_down
from sandbox.stripe.objects.schemas.invoice_amounts import sum_taxes
from sandbox.stripe.store.records import Record


def split(context: Context, invoice: Record, amount: int) -> list[dict[str, Any]]:
    """Return the share of each tax of the invoice that a new note gives back.

    With the notes before, it is in proportion to all that was credited: so the taxes
    of notes over the whole invoice are exactly its taxes.
    """
    if context.settings.credit_note_taxes == "none" or invoice["total"] <= 0:
        return []
    index = ("invoice", invoice["id"])
    notes = [
        note
        for note in context.store.scan("credit_note", index=index)
        if note["status"] == "issued"
    ]
    credited = amount + sum(note["amount"] for note in notes)
    before = {
        tax["tax_rate_details"]["tax_rate"]: tax
        for tax in sum_taxes(note["total_taxes"] for note in notes)
    }

    def share(tax: Record, field: str) -> int:
        earlier = before.get(tax["tax_rate_details"]["tax_rate"], {field: 0})[field]
        return divide_half_down(tax[field] * credited, invoice["total"]) - int(earlier)

    return [
        {
            **tax,
            "amount": share(tax, "amount"),
            "taxable_amount": share(tax, "taxable_amount"),
        }
        for tax in invoice["total_taxes"]
    ]
