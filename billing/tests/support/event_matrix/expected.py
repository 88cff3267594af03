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

from dataclasses import dataclass, field

from billing.tests.support.event_matrix.cases import (
    Attempt,
    Bolt11State,
    Case,
    Event,
    InvoiceState,
    SubscriptionState,
)
from billing.tests.support.event_matrix.observed import Outcome

#: Price of a month in cents; 3½ of its 30 days are used, 26½ are unused.
MONTH, USED, UNUSED = 500, 58, 442
PAID_STATES = {
    InvoiceState.CREDITED,
    InvoiceState.PAID_BY_CARD,
    InvoiceState.MARKED_PAID,
    InvoiceState.PAID_ON_PAGE,
}
_STATUS = {
    InvoiceState.DRAFT: "draft",
    InvoiceState.VOID: "void",
    InvoiceState.UNCOLLECTIBLE: "uncollectible",
}
_NEXT_ACTION = {
    Attempt.NONE: "",
    Attempt.MARKING: "",
    Attempt.CARD_PENDING: "notice",
    Attempt.CARD_REFUSED: "notice",
    Attempt.CARD_ACTION_REQUIRED: "notice",
}
_ACTION_ORDER = ["wallet", "card", "notice", ""]


@dataclass
class InvoiceModel:
    """Simple model of a case's invoice and tenant, with amounts in cents."""

    case: Case
    amount: int
    status: str
    remaining: int
    by_card: int = 0
    by_lightning: int = 0
    wallets: list[str] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    #: Marked amount and surplus of each settlement, None while it is being booked.
    settlements: list[tuple[int, int] | None] = field(default_factory=list)
    credits: list[str] = field(default_factory=list)
    state: str = "pending"
    next_action: str = ""
    paid_by: str = ""
    relay: str = "active"
    notices: set[str] = field(default_factory=set)
    subscription: str = "the invoice's"
    is_overdue: bool = False
    #: Whether Caravel has read the invoice's current state at Stripe.
    is_read: bool = False
    is_grace_over: bool = False
    is_attempt_due: bool = False
    has_customer: bool = True

    @property
    def is_payable(self) -> bool:
        """Return whether something is left to pay, according to the last read."""
        if not self.is_read:
            return self.case.invoice != InvoiceState.DRAFT
        return self.status in {"open", "uncollectible"} and self.remaining > 0

    @property
    def is_final(self) -> bool:
        return self.status in {"paid", "void"}

    @property
    def has_payable_bolt11(self) -> bool:
        """Return whether a presented bolt11 may still be paid."""
        return self.case.bolt11 == Bolt11State.PRESENTED or (
            # A bolt11 that the wallet refused was never presented.
            self.case.bolt11 == Bolt11State.EXPIRED
            and self.case.attempt != Attempt.WALLET_REFUSED
        )

    @property
    def is_blocked(self) -> bool:
        """Return whether a pending payment blocks new attempts and reductions."""
        pending = "pending" in self.wallets or "pending" in self.cards
        return pending or None in self.settlements or self.has_payable_bolt11


def expected_outcome(case: Case) -> Outcome:
    """Return the outcome that must follow from the case's event."""
    model = _initial(case)
    _apply_event(model)
    return _outcome(model)


def _apply_event(model: InvoiceModel) -> None:
    event, subscription = model.case.event, model.case.subscription
    if event.is_invoice_event:
        _handle_invoice_event(model)
    elif event == Event.ATTACHED and model.is_payable:
        model.next_action = min("card", model.next_action, key=_ACTION_ORDER.index)
        _collect(model)
    elif event == Event.PROCESSING and model.is_payable:
        # Late: nothing is being processed any more, but the invoice is read.
        _collect(model)
    elif event == Event.ENDED and subscription == SubscriptionState.CURRENT:
        _handle_external_cancel(model)
    elif event == Event.CUSTOMER_DELETED:
        _handle_deleted_customer(model)
    # Other events change nothing here: a subscription that was changed at Stripe is
    # changed back, one that is not current is ignored, and so is a detached card.


# --- before the event


def _initial(case: Case) -> InvoiceModel:
    amount = MONTH if case.subscription == SubscriptionState.CURRENT else USED
    otherwise = "paid" if case.invoice in PAID_STATES else "open"
    status = _STATUS.get(case.invoice, otherwise)
    remaining = 0 if status == "paid" else amount
    model = InvoiceModel(case, amount, status, remaining)
    _set_attempt(model)
    _set_payments(model)
    if case.subscription != SubscriptionState.CURRENT:
        model.credits.append(_posted("unserved", UNUSED, note=UNUSED))
        model.subscription = "another"
    if case.subscription == SubscriptionState.ENDED_UNPAID:
        model.subscription, model.relay = "none", "delinquent"
        model.notices, model.is_overdue, model.is_grace_over = {"suspended"}, True, True
    return model


def _set_attempt(model: InvoiceModel) -> None:
    attempt = model.case.attempt
    model.is_attempt_due = attempt == Attempt.NONE
    model.state = "draft" if model.is_attempt_due else "pending"
    model.next_action = _NEXT_ACTION.get(attempt, "card")
    wallets = {
        Attempt.WALLET_UNSENT: "pending",
        Attempt.WALLET_SENT: "pending",
        Attempt.WALLET_REFUSED: "refused",
        Attempt.WALLET_PAID: "paid",
    }
    cards = {
        Attempt.CARD_PENDING: "pending",
        Attempt.CARD_REFUSED: "refused",
        Attempt.CARD_ACTION_REQUIRED: "action_required",
    }
    model.wallets += [wallets[attempt]] if attempt in wallets else []
    model.cards += [cards[attempt]] if attempt in cards else []
    if attempt == Attempt.MARKING:
        model.settlements.append(None)


def _set_payments(model: InvoiceModel) -> None:
    """Add payments at Stripe and to our own wallet."""
    invoice, attempt = model.case.invoice, model.case.attempt
    if invoice in {InvoiceState.PAID_BY_CARD, InvoiceState.PAID_ON_PAGE}:
        model.by_card = model.amount
    if invoice == InvoiceState.PAID_BY_CARD and attempt != Attempt.CARD_PENDING:
        model.cards.append("paid")
    if invoice == InvoiceState.MARKED_PAID and attempt != Attempt.MARKING:
        model.settlements.append((model.amount, 0))
        model.by_lightning += model.amount
    if attempt in {Attempt.WALLET_PAID, Attempt.MARKING}:
        model.by_lightning += model.amount


# --- events


def _handle_invoice_event(model: InvoiceModel) -> None:
    model.is_read = True
    is_new = (
        model.case.event == Event.OVERDUE
        and model.is_payable
        and not model.is_grace_over
    )
    model.is_grace_over = model.is_grace_over or is_new
    _collect(model)
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
        model.credits.append(_posted("unserved", MONTH, balance=MONTH))
    model.is_overdue = model.is_payable
    if not model.is_overdue:
        model.subscription = "another"


def _credit_unused_time(model: InvoiceModel) -> None:
    """Credit unused time: reduce an open invoice, or add to the balance."""
    was_draft = model.status == "draft"
    if was_draft:
        model.status = "open"
    share = MONTH if was_draft else UNUSED
    if model.status == "void":
        return
    model.is_read = True
    if model.status == "open":
        _reduce_invoice(model, share)
    elif model.status == "paid" and model.case.invoice != InvoiceState.CREDITED:
        model.credits.append(_posted("unserved", share, balance=share))
    if model.is_payable:
        _collect(model)


def _reduce_invoice(model: InvoiceModel, share: int) -> None:
    if model.is_blocked:
        model.credits.append(f"unserved {share} owed: 0 + 0")
        return
    model.credits.append(_posted("unserved", share, note=share))
    model.remaining -= share
    if model.remaining == 0:
        model.status = "paid"
        _collect(model)


# --- collection


def _collect(model: InvoiceModel) -> None:
    """Read the invoice and take every step that is possible now."""
    model.is_read = True
    if "pending" in model.cards:
        # The status at Stripe counts, even before the result of the charge is known.
        model.state = "pending"
        if model.is_final:
            _end_overdue(model)
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
        _add_settlement(model, "lightning" if pays_invoice else "", model.amount)
    if unbooked:
        _add_settlement(model, "" if model.is_final else "wallet", model.remaining)


def _add_settlement(model: InvoiceModel, paid_by: str, requested: int) -> None:
    marked = requested if paid_by else 0
    surplus = model.amount - marked
    model.settlements.append((marked, surplus))
    if paid_by:
        model.status, model.remaining, model.paid_by = "paid", 0, paid_by
    if surplus:
        model.credits.append(_posted("surplus", surplus, balance=surplus))


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


# --- the outcome


def _posted(reason: str, cents: int, *, note: int = 0, balance: int = 0) -> str:
    return f"{reason} {cents} posted: {note} + {balance}"


def _outcome(model: InvoiceModel) -> Outcome:
    is_live = model.subscription != "none"
    return Outcome(
        status=model.status,
        remaining=model.remaining,
        by_card=model.by_card,
        by_lightning=model.by_lightning,
        wallets=tuple(sorted(model.wallets)),
        cards=tuple(sorted(model.cards)),
        settlements=tuple(sorted(map(_settlement, model.settlements))),
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
    )


def _settlement(settlement: tuple[int, int] | None) -> str:
    if settlement is None:
        return "marking 0, surplus 0"
    marked, surplus = settlement
    return f"{'marked' if marked else 'credited'} {marked}, surplus {surplus}"
