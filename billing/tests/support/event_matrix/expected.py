"""Predict the outcome of a case from the billing rules alone.

`expected_outcome` returns the outcome after all tasks have run, before any time passes.
It uses neither the database nor Stripe.

One row of the matrix, as `str(case)` prints it, and its outcome:

    invoice.overdue | open | card declined | no bolt11 | wallet | current

    status="open", remaining=58           used time of $5.00, the rest is credited
    credits=("unserved 442 posted: 442 + 0",)     all of it as a credit note
    cards=("refused",), wallets=()        no new attempt until it is due
    state="manual", next_action=""        only the tenant can pay now
    relay="delinquent", is_overdue=True   the grace period is over
    subscription="none"                   ended with it
    notices=("payment_failed", "suspended")
"""

from billing.tests.support.event_matrix.cases import (
    Case,
    Event,
    InvoiceState,
    SubscriptionState,
)
from billing.tests.support.event_matrix.collection import collect
from billing.tests.support.event_matrix.expected_outside import (
    handle_from_outside,
    try_new_card,
)
from billing.tests.support.event_matrix.model import (
    MONTH,
    UNUSED,
    InvoiceModel,
    initial,
    posted,
)
from billing.tests.support.event_matrix.observed import Outcome


def expected_outcome(case: Case) -> Outcome:
    """Return the outcome that must follow from the case's event."""
    model = initial(case)
    _apply_event(model)
    return _outcome(model)


def _apply_event(model: InvoiceModel) -> None:
    event, subscription = model.case.event, model.case.subscription
    if event.is_from_outside:
        handle_from_outside(model)
    elif event.is_invoice_event:
        _handle_invoice_event(model)
    elif event == Event.ATTACHED:
        try_new_card(model)
    elif event == Event.PROCESSING and model.is_payable:
        # Late: nothing is being processed any more, but the invoice is read.
        collect(model)
    elif event == Event.ENDED and subscription == SubscriptionState.CURRENT:
        _handle_external_cancel(model)
    elif event == Event.CUSTOMER_DELETED:
        _handle_deleted_customer(model)
    # Other events change nothing here: a subscription that was changed at Stripe is
    # changed back, one that is not current is ignored, and so is a detached card.


# --- events


def _handle_invoice_event(model: InvoiceModel) -> None:
    model.is_read = True
    is_new = (
        model.case.event == Event.OVERDUE
        and model.is_payable
        and not model.is_grace_over
    )
    model.is_grace_over = model.is_grace_over or is_new
    collect(model)
    if is_new and model.is_payable:
        _suspend(model)


def _suspend(model: InvoiceModel) -> None:
    """End the grace period: suspend the relays and end their subscription."""
    model.relay, model.is_overdue = "delinquent", True
    model.notices.add("suspended")
    was_the_invoices = model.subscription == "the invoice's"
    model.subscription = "none"
    if was_the_invoices:
        _credit_unused_time(model)


def _handle_external_cancel(model: InvoiceModel) -> None:
    """Handle a cancellation at Stripe: no relays, only the used time is owed."""
    model.relay = "inactive"
    model.subscription = "none"
    _credit_unused_time(model)
    model.is_overdue = model.is_payable


def _handle_deleted_customer(model: InvoiceModel) -> None:
    """Handle a deleted customer: a new subscription only if nothing is owed."""
    model.has_customer = False
    is_the_invoices, is_another = (
        model.subscription == each for each in ("the invoice's", "another")
    )
    if not (is_the_invoices or is_another):
        return
    model.subscription = "none"
    if is_the_invoices:
        _credit_unused_time(model)
    else:
        # No time of the other subscription was used yet.
        model.credits.append(posted("unserved", MONTH, balance=MONTH))
    model.is_overdue = model.is_payable
    if not model.is_overdue:
        model.subscription = "another"


def _credit_unused_time(model: InvoiceModel) -> None:
    """Credit unused time: reduce an open invoice, or add to the balance."""
    was_draft = model.status == "draft"
    if was_draft:
        model.status = "open"
    share = MONTH if was_draft else UNUSED
    model.is_read = True
    if model.status == "void":
        return
    if model.status == "open":
        _reduce_invoice(model, share)
    elif model.status == "uncollectible":
        # Such an invoice may accept no credit note: it waits for the payment.
        model.credits.append(f"unserved {share} owed: 0 + 0")
    elif model.status == "paid" and model.case.invoice != InvoiceState.CREDITED:
        model.credits.append(posted("unserved", share, balance=share))
    if model.is_payable:
        collect(model)


def _reduce_invoice(model: InvoiceModel, share: int) -> None:
    if model.is_blocked:
        model.credits.append(f"unserved {share} owed: 0 + 0")
        return
    model.credits.append(posted("unserved", share, note=share))
    model.remaining -= share
    if model.remaining == 0:
        model.status = "paid"
        collect(model)


# --- the outcome


def _outcome(model: InvoiceModel) -> Outcome:
    is_live = model.subscription != "none" and not model.is_paused
    return Outcome(
        status=model.status,
        remaining=model.remaining,
        by_card=model.by_card,
        by_lightning=model.by_lightning,
        wallets=tuple(sorted(model.wallets)),
        cards=tuple(sorted(model.cards)),
        settlements=_settlements(model),
        credits=tuple(sorted(model.credits)),
        state=model.state,
        next_action=model.next_action,
        paid_by=model.paid_by,
        relay=model.relay,
        notices=tuple(sorted(model.notices)),
        subscription=model.subscription,
        live_subscriptions=int(is_live),
        quantity=int(is_live),
        is_overdue=model.is_overdue,
        reversals=tuple(sorted(model.reversals)),
        debt=model.debt,
    )


def _settlements(model: InvoiceModel) -> tuple[str, ...]:
    repaid = ["repaid 0, surplus 0"] * model.repayments
    return tuple(sorted([*map(_settlement, model.settlements), *repaid]))


def _settlement(settlement: tuple[int, int] | None) -> str:
    if settlement is None:
        return "marking 0, surplus 0"
    marked, surplus = settlement
    return f"{'marked' if marked else 'credited'} {marked}, surplus {surplus}"
