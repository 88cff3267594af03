"""Predict what follows from what staff, banks and card networks do, on the model."""

from billing.tests.support.event_matrix.cases import (
    REVERSALS,
    Event,
    InvoiceState,
    SubscriptionState,
)
from billing.tests.support.event_matrix.collection import collect
from billing.tests.support.event_matrix.model import (
    ACTION_ORDER,
    UNUSED,
    InvoiceModel,
    posted,
)
from billing.tests.support.event_matrix.outside import NOTE


def handle_from_outside(model: InvoiceModel) -> None:
    """Apply what follows from the case's event."""
    event = model.case.event
    if event in REVERSALS:
        _handle_reversal(model)
    elif event in {Event.CUSTOMER_UPDATED, Event.REISSUED}:
        try_new_card(model)
    elif event == Event.PAUSED:
        # Stripe's page on it: the "customer loses service access".
        model.is_paused, model.relay = True, "delinquent"
    elif event.is_invoice_event or event == Event.NOTED:
        _handle_edit(model)
    # A resumed subscription goes on, and an archived price too in an existing item.


def try_new_card(model: InvoiceModel) -> None:
    """Try a card that was added, made the default or replaced in place."""
    if model.is_payable:
        model.next_action = min("card", model.next_action, key=ACTION_ORDER.index)
        collect(model)


def _handle_edit(model: InvoiceModel) -> None:
    """Read an invoice that staff have edited; what they hold stays a draft."""
    model.is_held = model.case.invoice == InvoiceState.DRAFT
    if model.case.event == Event.NOTED and model.status == "open":
        model.remaining -= NOTE
    collect(model)


def _handle_reversal(model: InvoiceModel) -> None:
    event, cents = model.case.event, model.amount
    states = {
        Event.DISPUTED: f"dispute {cents} needs_response",
        Event.DISPUTE_WON: f"dispute {cents} won",
        Event.WARNED: f"fraud_warning {cents} open",
    }
    model.reversals.append(states.get(event, f"refund {cents} succeeded"))
    collect(model)
    is_ended = model.case.subscription != SubscriptionState.CURRENT
    if event == Event.DISPUTED and not is_ended:
        # All of it was for time that is or will be served.
        model.debt = model.amount
        model.is_overdue = True
    if event in {Event.DISPUTED, Event.REFUND_CREATED, Event.REFUNDED} and is_ended:
        # It counts first against the unserved time, which was credited in full.
        taken = min(cents, UNUSED)
        model.credits.append(posted("unserved", -taken, balance=-taken))
