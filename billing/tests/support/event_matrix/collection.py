"""Predict what collecting an invoice does, on the model."""

from billing.tests.support.event_matrix.cases import (
    InvoiceState,
)
from billing.tests.support.event_matrix.model import InvoiceModel, posted


def collect(model: InvoiceModel) -> None:
    """Read the invoice and take every step that is possible now."""
    model.is_read = True
    if "pending" in model.cards:
        # The status at Stripe counts, even before the result of the charge is known.
        model.state = "pending"
        if model.is_final:
            _end_overdue(model)
        return
    if model.is_held:
        model.state = "draft"
        return
    _book_lightning_payments(model)
    if model.is_final:
        _close(model)
    elif model.status == "uncollectible":
        model.state = "manual"
    else:
        model.status = "open"
        _run_attempts(model)


def _book_lightning_payments(model: InvoiceModel) -> None:
    """Book each Lightning payment on the invoice, or as credit."""
    unbooked = model.by_lightning // model.amount - len(model.settlements)
    if None in model.settlements:
        model.settlements.remove(None)
        pays_invoice = (
            model.case.invoice == InvoiceState.MARKED_PAID or not model.is_final
        )
        requested = model.remaining if not model.is_final else model.amount
        _add_settlement(model, "lightning" if pays_invoice else "", requested)
    if unbooked:
        _add_settlement(model, "" if model.is_final else "wallet", model.remaining)


def _add_settlement(model: InvoiceModel, paid_by: str, requested: int) -> None:
    marked = requested if paid_by else 0
    surplus = model.amount - marked
    model.settlements.append((marked, surplus))
    if paid_by:
        model.status, model.remaining, model.paid_by = "paid", 0, paid_by
    if surplus:
        model.credits.append(posted("surplus", surplus, balance=surplus))


def _close(model: InvoiceModel) -> None:
    model.state, model.next_action = "closed", ""
    if model.status == "paid":
        model.paid_by = model.paid_by or _paid_by(model)
    model.notices.clear()
    _end_overdue(model)


def _paid_by(model: InvoiceModel) -> str:
    if model.case.invoice == InvoiceState.MARKED_PAID:
        return "lightning"
    if "paid" in model.cards:
        return "card"
    return "elsewhere" if model.by_card else "credit"


def _end_overdue(model: InvoiceModel) -> None:
    """Reactivate suspended relays with a new subscription: nothing is owed."""
    model.is_overdue = False
    if model.relay == "delinquent":
        model.relay, model.subscription = "active", "another"
        model.notices = {"reactivated"}


def _run_attempts(model: InvoiceModel) -> None:
    """Try wallet, card and notice in this order, unless a payment is pending."""
    if "pending" in model.wallets:
        model.state = "pending"
        return
    if any("owed" in each for each in model.credits):
        # A reduction is pending: the full amount must not be charged.
        model.state = "collecting"
        return
    while model.next_action or model.is_attempt_due:
        if not model.next_action:
            model.next_action, model.is_attempt_due = "wallet", False
        if not _ACTIONS[model.next_action](model):
            return
    model.state = "pending" if model.is_blocked else "manual"


def _try_wallet(model: InvoiceModel) -> bool:
    """Try the wallet. Returns whether the next action may follow at once."""
    if not model.case.methods.has_wallet:
        model.next_action = "card"
        return True
    model.state = "pending"
    if not model.is_blocked:
        model.wallets.append("pending")
        model.next_action = "card"
    return False


def _try_card(model: InvoiceModel) -> bool:
    if not model.case.methods.has_card or not model.has_customer:
        model.next_action = "notice"
        return True
    if model.is_blocked:
        model.state = "pending"
        return False
    model.cards.append("paid")
    model.by_card += model.remaining
    model.status, model.remaining = "paid", 0
    _close(model)
    return False


def _send_notice(model: InvoiceModel) -> bool:
    was_refused = {"refused", "action_required"} & set(model.cards)
    model.notices.add("payment_failed" if was_refused else "invoice_due")
    model.next_action = ""
    return True


_ACTIONS = {"wallet": _try_wallet, "card": _try_card, "notice": _send_notice}
