"""Refunds, and credit notes of each kind."""

from typing import Any

from billing.tests.support.simulation.actions import Payer
from billing.tests.support.simulation.staff.objects import (
    StaffAction,
    invoices,
    live_subscription,
    pick,
    request,
    succeeded_charges,
)
from billing.tests.support.simulation.system import System
from sandbox.stripe.store.records import Record


def refund(system: System, payer: Payer, variant: int) -> None:
    """Refund a charge, in part or whole."""
    for charge in pick(succeeded_charges(system, payer), variant):
        _refund(system, charge, variant)


def refund_with_note(system: System, payer: Payer, variant: int) -> None:
    """Refund a charge, and issue a credit note that is linked to the refund."""
    for charge in pick(succeeded_charges(system, payer), variant):
        for refund in _refund(system, charge, variant):
            amount = refund["amount"]
            link = {"refund": refund["id"], "amount_refunded": amount}
            invoice = _invoice_of(system, charge)
            _note(system, invoice, amount, refunds=[link])


def note_with_refund(system: System, payer: Payer, variant: int) -> None:
    """Issue a credit note on a paid invoice that refunds the charge."""
    for invoice in pick(invoices(system, payer, "paid"), variant):
        amount = _part(invoice["amount_paid"], variant)
        _note(system, invoice["id"], amount, refund_amount=amount)


def note_to_balance(system: System, payer: Payer, variant: int) -> None:
    """Issue a credit note on a paid invoice that adds to the customer balance."""
    for invoice in pick(invoices(system, payer, "paid"), variant):
        amount = _part(invoice["total"], variant)
        _note(system, invoice["id"], amount, credit_amount=amount)


def note_out_of_band(system: System, payer: Payer, variant: int) -> None:
    """Issue a credit note on a paid invoice for money returned outside of Stripe."""
    for invoice in pick(invoices(system, payer, "paid"), variant):
        amount = _part(invoice["total"], variant)
        _note(system, invoice["id"], amount, out_of_band_amount=amount)


def note_on_open_invoice(system: System, payer: Payer, variant: int) -> None:
    """Reduce an open invoice by a credit note, in part or whole."""
    for invoice in pick(invoices(system, payer, "open"), variant):
        _note(system, invoice["id"], _part(invoice["amount_remaining"], variant))


def cancel_and_refund(system: System, payer: Payer, variant: int) -> None:
    """Cancel the subscription and refund its last payment, as one dialog offers."""
    subscription = live_subscription(system, payer)
    if subscription is None:
        return
    system.exclude_if_prorations_are_lost(payer.pubkey, subscription)
    system.holds.end(subscription)
    request(system.api.v1.subscriptions.cancel, subscription)
    refund(system, payer, 0)


def _refund(system: System, charge: Record, variant: int) -> list[Record]:
    params: Any = {"charge": charge["id"], "amount": _part(charge["amount"], variant)}
    request(system.api.v1.refunds.create, params)
    store = system.stripe.app.store
    return list(store.scan("refund", index=("charge", charge["id"])))[:1]


def _part(amount: int, variant: int) -> int:
    return max(1, int([amount, amount // 2, 100, amount - 1][variant]))


def _note(system: System, invoice: str, amount: int, **allocation: Any) -> None:
    params: Any = {"invoice": invoice, "amount": amount, **allocation}
    request(system.api.v1.credit_notes.create, params)


def _invoice_of(system: System, charge: Record) -> str:
    intent = system.stripe.app.store.get("payment_intent", charge["payment_intent"])
    assert intent is not None
    return str(intent["_invoice"])


ACTIONS: tuple[StaffAction, ...] = (
    refund,
    refund_with_note,
    note_with_refund,
    note_to_balance,
    note_out_of_band,
    note_on_open_invoice,
    cancel_and_refund,
)
