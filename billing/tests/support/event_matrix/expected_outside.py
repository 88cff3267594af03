"""Predict the effects of changes by staff, banks and card networks, on the model."""

from billing.tests.support.event_matrix.cases import (
    REVERSALS,
    Attempt,
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
        # A card is new if it was never charged, or was charged with another number.
        if (event == Event.REISSUED) == _was_charged(model):
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


def _was_charged(model: InvoiceModel) -> bool:
    """Return whether we have charged the tenant's card for the invoice."""
    return bool(model.cards)


def _handle_edit(model: InvoiceModel) -> None:
    """Read an invoice that staff have edited; what they hold stays a draft."""
    model.is_held = model.case.invoice == InvoiceState.DRAFT
    is_note = model.case.event == Event.NOTED
    if is_note and model.status == "open":
        model.remaining -= NOTE
    collect(model)
    if is_note:
        _correct_credit(model, NOTE)


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
        _owe_again(model)
    if event in {Event.DISPUTED, Event.REFUND_CREATED, Event.REFUNDED}:
        _correct_credit(model, cents)


def _owe_again(model: InvoiceModel) -> None:
    """Owe disputed money; a Lightning payment that was not needed repays it."""
    if (0, model.amount) in model.settlements:
        model.settlements.remove((0, model.amount))
        model.credits.remove(posted("surplus", model.amount, balance=model.amount))
        model.repayments += 1
        by_hand = model.case.attempt == Attempt.MARKING
        model.paid_by = "lightning" if by_hand else "wallet"
        return
    model.debt, model.is_overdue = model.amount, True
    model.notices.add("payment_disputed")
    if model.state == "closed":
        model.state = "manual"


def _correct_credit(model: InvoiceModel, returned: int) -> None:
    """Debit what was credited for the end of the subscription and is returned now.

    It counts first against the unserved time, which was credited in full.
    """
    if model.case.subscription != SubscriptionState.CURRENT:
        taken = min(returned, UNUSED)
        model.credits.append(posted("unserved", -taken, balance=-taken))
