"""Money paid for an invoice, given back and taken back, and the price of its time.

From the objects at Stripe and our own wallet alone, in cents: nothing is read from the
records that Caravel keeps of them, except how Lightning payments were booked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from billing.models import Credit, Reversal
from billing.tests.support.simulation.balances import (
    captured_by_card,
    captured_by_lightning,
)
from billing.tests.support.simulation.system import System
from lightning.models import LightningInvoice
from sandbox.stripe.store.records import Record, Store

#: Statuses of a dispute in which the bank has the money:
#: https://docs.stripe.com/api/disputes/object
HOLDS_MONEY = ("needs_response", "under_review", "lost")
RETURNS_NOTHING = ("failed", "canceled")


@dataclass(frozen=True)
class InvoiceMoney:
    """The money of one invoice that is not void, in cents.

    `unserved` is what its lines cost after the end of the subscription, 0 before.
    `noted` are credit notes by staff; those that refund count as refunds.
    """

    id: str
    subscription: str
    status: str
    remaining: int
    captured: int
    repaid: int
    refunded: int
    noted: int
    taken: int
    written_off: int
    unserved: Fraction

    @property
    def given_back(self) -> int:
        return self.refunded + self.noted

    @property
    def debt(self) -> int:
        """Disputed money that is owed again: that for served time."""
        unserved_left = max(Fraction(), self.unserved - self.given_back)
        owed = self.taken - self.repaid - self.written_off - unserved_left
        return max(0, round(owed))

    @property
    def lost(self) -> int:
        """Money that is gone: returned, or taken and neither repaid nor owed."""
        return self.given_back + max(0, self.taken - self.repaid) - self.debt

    @property
    def gift(self) -> Fraction:
        """The lost money beyond the unserved time, which it replaces first."""
        return max(Fraction(), self.lost - max(self.unserved, Fraction()))


def money_of(system: System, invoice: Record, at: int | None) -> InvoiceMoney:
    """Return the money of an invoice whose subscription ended `at`, if it has."""
    store, id = system.stripe.app.store, invoice["id"]
    disputes = _disputes(store, id)
    captured = captured_by_card(system, id) + captured_by_lightning(system, id)
    notes = _staff_notes(store, id)
    lines = invoice["_lines"]
    return InvoiceMoney(
        id=id,
        subscription=subscription_of(invoice),
        status=invoice["status"],
        # The customer balance is applied only when a draft is finalized.
        remaining=invoice["total" if _is_draft(invoice) else "amount_remaining"],
        captured=captured,
        repaid=repaid(system, invoice),
        refunded=sum(refund["amount"] for refund in _refunds(store, id)),
        noted=sum(note["amount"] - _refunded_by(note) for note in notes),
        taken=sum(d["amount"] for d in disputes if d["status"] in HOLDS_MONEY),
        written_off=_written_off(id),
        unserved=Fraction() if at is None else cost_after(lines, at),
    )


def repaid(system: System, invoice: Record) -> int:
    """Return the disputed money that the tenant has paid again, by Lightning."""
    store, id = system.stripe.app.store, invoice["id"]
    disputed = sum(dispute["amount"] for dispute in _disputes(store, id))
    due = invoice["amount_due"] if invoice["status"] == "paid" else 0
    captured = captured_by_card(system, id) + captured_by_lightning(system, id)
    return int(min(disputed, max(0, captured - due - surplus(id))))


def paid_outside(system: System, invoice: str) -> int:
    """Return the money that staff returned outside of Stripe, in cents."""
    notes = _staff_notes(system.stripe.app.store, invoice)
    return sum(note["out_of_band_amount"] or 0 for note in notes)


def subscription_of(invoice: Record) -> str:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    return str(details.get("subscription", ""))


def surplus(invoice: str) -> int:
    """Return the part of an invoice's Lightning payments booked as credit, in cents."""
    hashes = LightningInvoice.objects.of(invoice).values("payment_hash")
    rows = Credit.objects.filter(reason=Credit.Reason.SURPLUS, source__in=hashes)
    return sum(row.amount_cents for row in rows)


# --- what time costs


def cost_of(line: Record) -> int:
    """Return the cost of a line: after its discounts, with its exclusive taxes."""
    discounts = sum(entry["amount"] for entry in line["discount_amounts"])
    taxes = sum(
        tax["amount"] for tax in line["taxes"] if tax["tax_behavior"] == "exclusive"
    )
    return int(line["amount"] - discounts + taxes)


def cost_of_item(store: Store, item: Record) -> Fraction:
    """Return the cost of a pending item, with the taxes that it will have."""
    percent = sum(
        Fraction(str(rate["percentage"]))
        for rate in _tax_rates(store, item)
        if not rate["inclusive"]
    )
    return int(item["amount"]) * (1 + Fraction(percent) / 100)


def cost_after(lines: Iterable[Record], at: float) -> Fraction:
    """Return the exact cost of the lines for the time after a moment."""
    return sum((cost_of(line) * share_after(line, at) for line in lines), Fraction())


def share_after(line: Record, at: float) -> Fraction:
    """Return the share of a line's or item's period after a moment, from 0 to 1."""
    start, end = line["period"]["start"], line["period"]["end"]
    if end <= start:
        return Fraction()
    left = Fraction(end) - Fraction(at)
    return max(Fraction(), min(left / Fraction(end - start), Fraction(1)))


def _tax_rates(store: Store, item: Record) -> list[Record]:
    if item.get("tax_rates"):
        return list(item["tax_rates"])
    ids = item.get("_tax_rates") or []
    return [rate for id in ids if (rate := store.get("tax_rate", id))]


# --- what was returned or taken


def _is_draft(invoice: Record) -> bool:
    return bool(invoice["status"] == "draft")


def charges_of(store: Store, invoice: str) -> list[Record]:
    """Return the charges for an invoice."""
    return [
        charge
        for intent in store.scan("payment_intent")
        if intent["_invoice"] == invoice
        for charge in store.scan("charge", index=("payment_intent", intent["id"]))
    ]


def _refunds(store: Store, invoice: str) -> list[Record]:
    return [
        refund
        for charge in charges_of(store, invoice)
        for refund in store.scan("refund", index=("charge", charge["id"]))
        if refund["status"] not in RETURNS_NOTHING
    ]


def _disputes(store: Store, invoice: str) -> list[Record]:
    return [
        dispute
        for charge in charges_of(store, invoice)
        for dispute in store.scan("dispute", index=("charge", charge["id"]))
    ]


def _staff_notes(store: Store, invoice: str) -> list[Record]:
    """Return the credit notes that are not ours, except void ones."""
    return [
        note
        for note in store.scan("credit_note", index=("invoice", invoice))
        if note["status"] != "void" and "caravel_credit" not in note["metadata"]
    ]


def _refunded_by(note: Record) -> int:
    return sum(link["amount_refunded"] for link in note["refunds"])


def _written_off(invoice: str) -> int:
    """Return the part of a dispute's debt that support has let go."""
    rows = Reversal.objects.filter(collection=invoice)
    return sum(row.written_off_cents for row in rows)
