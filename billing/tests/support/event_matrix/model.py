"""A simple model of a case's invoice and tenant, and their state before the event."""

from dataclasses import dataclass, field

from billing.tests.support.event_matrix.cases import (
    Attempt,
    Bolt11State,
    Case,
    InvoiceState,
    SubscriptionState,
)

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
ACTION_ORDER = ["wallet", "card", "notice", ""]


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
    #: Whether staff hold the draft, or Stripe refuses to finalize it.
    is_held: bool = False
    is_paused: bool = False
    reversals: list[str] = field(default_factory=list)
    debt: int = 0
    #: Lightning payments that repaid disputed money.
    repayments: int = 0

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


def initial(case: Case) -> InvoiceModel:
    """Return the model of a case before its event."""
    amount = MONTH if case.subscription == SubscriptionState.CURRENT else USED
    otherwise = "paid" if case.invoice in PAID_STATES else "open"
    status = _STATUS.get(case.invoice, otherwise)
    remaining = 0 if status == "paid" else amount
    model = InvoiceModel(case, amount, status, remaining)
    _set_attempt(model)
    _set_payments(model)
    if case.subscription != SubscriptionState.CURRENT:
        model.credits.append(posted("unserved", UNUSED, note=UNUSED))
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


def posted(reason: str, cents: int, *, note: int = 0, balance: int = 0) -> str:
    """Return a posted credit, as an outcome shows it."""
    return f"{reason} {cents} posted: {note} + {balance}"
