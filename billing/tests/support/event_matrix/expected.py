"""What must follow from an event, told of each cell from the rules alone.

`expected` tells how things stand when every message has been worked off and no time
has passed. It knows nothing of rows and calls, only what a person would answer.
"""

from dataclasses import dataclass, field

from billing.tests.support.event_matrix.cases import (
    Attempt,
    Bill,
    Cell,
    Event,
    Offer,
    Plan,
)
from billing.tests.support.event_matrix.observed import Facts

#: A month of the plan; of 30 days of it 3½ are served, 26½ are not.
MONTH, SERVED, UNSERVED = 500, 58, 442
PAID = {Bill.CREDITED, Bill.BY_CARD, Bill.MARKED, Bill.ON_PAGE}
_STATUS = {Bill.DRAFT: "draft", Bill.VOID: "void", Bill.WRITTEN_OFF: "uncollectible"}
_RAIL = {
    Attempt.NONE: "",
    Attempt.MARKING: "",
    Attempt.CARD_ASKED: "notice",
    Attempt.CARD_REFUSED: "notice",
    Attempt.ACTION: "notice",
}
_LADDER = ["wallet", "card", "notice", ""]


@dataclass
class Story:
    """A cell, and what has become of it so far; cents throughout."""

    cell: Cell
    amount: int
    status: str
    remaining: int
    by_card: int = 0
    by_lightning: int = 0
    wallets: list[str] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    #: What was marked and what became surplus, None while it is being booked.
    booked: list[tuple[int, int] | None] = field(default_factory=list)
    credits: list[str] = field(default_factory=list)
    state: str = "pending"
    rail: str = ""
    paid_by: str = ""
    relay: str = "active"
    notices: set[str] = field(default_factory=set)
    subscription: str = "the invoice's"
    in_debt: bool = False
    #: Whether we know what Stripe says of the invoice, and whether its grace is over.
    is_known: bool = False
    is_over: bool = False
    is_rung_due: bool = False
    has_customer: bool = True

    @property
    def asks(self) -> bool:
        """Whether the invoice asks for money, as far as we know."""
        if not self.is_known:
            return self.cell.bill != Bill.DRAFT
        return self.status in {"open", "uncollectible"} and self.remaining > 0

    @property
    def is_settled(self) -> bool:
        return self.status in {"paid", "void"}

    @property
    def may_be_paid_by_person(self) -> bool:
        """Whether somebody was shown a bolt11 that is not known to be dead."""
        return self.cell.offer == Offer.SHOWN or (
            # What a wallet refused, nobody else has seen.
            self.cell.offer == Offer.EXPIRED
            and self.cell.attempt != Attempt.WALLET_REFUSED
        )

    @property
    def is_busy(self) -> bool:
        """Whether something may pay it: nothing else begins, and nothing is reduced."""
        pending = "pending" in self.wallets or "pending" in self.cards
        return pending or None in self.booked or self.may_be_paid_by_person


def expected(cell: Cell) -> Facts:
    """Return what must be so after a cell's event."""
    story = _before(cell)
    _happen(story)
    return _facts(story)


def _happen(story: Story) -> None:
    event, plan = story.cell.event, story.cell.plan
    if event.is_of_invoice:
        _hear_of_invoice(story)
    elif event == Event.ATTACHED and story.asks:
        story.rail = min("card", story.rail, key=_LADDER.index)
        _look(story)
    elif event == Event.ENDED and plan == Plan.CURRENT:
        _cancelled_by_person(story)
    elif event == Event.CUSTOMER_DELETED:
        _lose_customer(story)
    # A changed subscription is put right; one that is not current concerns nobody; a
    # card that is gone will not be charged. Nothing else comes of these.


# --- before the event


def _before(cell: Cell) -> Story:
    amount = MONTH if cell.plan == Plan.CURRENT else SERVED
    status = _STATUS.get(cell.bill, "paid" if cell.bill in PAID else "open")
    story = Story(cell, amount, status, remaining=0 if status == "paid" else amount)
    _set_attempt(story)
    _set_payments(story)
    if cell.plan != Plan.CURRENT:
        story.credits.append(_posted("unserved", UNSERVED, note=UNSERVED))
        story.subscription = "another"
    if cell.plan == Plan.GONE:
        story.subscription, story.relay = "none", "delinquent"
        story.notices, story.in_debt, story.is_over = {"suspended"}, True, True
    return story


def _set_attempt(story: Story) -> None:
    attempt = story.cell.attempt
    story.is_rung_due = attempt == Attempt.NONE
    story.state = "draft" if story.is_rung_due else "pending"
    story.rail = _RAIL.get(attempt, "card")
    wallets = {
        Attempt.UNSENT: "pending",
        Attempt.SENT: "pending",
        Attempt.WALLET_REFUSED: "refused",
        Attempt.ARRIVED: "paid",
    }
    cards = {
        Attempt.CARD_ASKED: "pending",
        Attempt.CARD_REFUSED: "refused",
        Attempt.ACTION: "action_required",
    }
    story.wallets += [wallets[attempt]] if attempt in wallets else []
    story.cards += [cards[attempt]] if attempt in cards else []
    if attempt == Attempt.MARKING:
        story.booked.append(None)


def _set_payments(story: Story) -> None:
    """What was paid at Stripe, and what our own wallet has received."""
    bill, attempt = story.cell.bill, story.cell.attempt
    if bill in {Bill.BY_CARD, Bill.ON_PAGE}:
        story.by_card = story.amount
    if bill == Bill.BY_CARD and attempt != Attempt.CARD_ASKED:
        story.cards.append("paid")
    if bill == Bill.MARKED and attempt != Attempt.MARKING:
        story.booked.append((story.amount, 0))
        story.by_lightning += story.amount
    if attempt in {Attempt.ARRIVED, Attempt.MARKING}:
        story.by_lightning += story.amount


# --- events


def _hear_of_invoice(story: Story) -> None:
    story.is_known = True
    is_new = story.cell.event == Event.OVERDUE and story.asks and not story.is_over
    story.is_over = story.is_over or is_new
    _look(story)
    if is_new and story.asks:
        _suspend(story)


def _suspend(story: Story) -> None:
    """Its grace is over: the relays go off, and with them whatever bills for them."""
    story.relay, story.in_debt = "delinquent", True
    story.notices.add("suspended")
    was_its_own = story.subscription == "the invoice's"
    story.subscription = "none"
    if was_its_own:
        _owe_unserved(story)


def _cancelled_by_person(story: Story) -> None:
    """Somebody ended it at Stripe: they want no relay, and owe for what was served."""
    story.relay = "inactive"
    story.subscription = "none"
    _owe_unserved(story)
    story.in_debt = story.asks


def _lose_customer(story: Story) -> None:
    """Their subscription ended with them; whoever owes nothing gets another one."""
    story.has_customer = False
    its_own, other = (
        story.subscription == each for each in ("the invoice's", "another")
    )
    if not (its_own or other):
        return
    story.subscription = "none"
    if its_own:
        _owe_unserved(story)
    else:
        # Of the other one nothing was served yet.
        story.credits.append(_posted("unserved", MONTH, balance=MONTH))
    story.in_debt = story.asks
    if not story.in_debt:
        story.subscription = "another"


def _owe_unserved(story: Story) -> None:
    """What was billed and not served is taken off, or given back."""
    was_draft = story.status == "draft"
    if was_draft:
        story.status = "open"
    share = MONTH if was_draft else UNSERVED
    if story.status == "void":
        return
    story.is_known = True
    if story.status == "open":
        _reduce(story, share)
    elif story.status == "paid" and story.cell.bill != Bill.CREDITED:
        story.credits.append(_posted("unserved", share, balance=share))
    if story.asks:
        _look(story)


def _reduce(story: Story, share: int) -> None:
    if story.is_busy:
        story.credits.append(f"unserved {share} owed: 0 + 0")
        return
    story.credits.append(_posted("unserved", share, note=share))
    story.remaining -= share
    if story.remaining == 0:
        story.status = "paid"
        _look(story)


# --- an invoice is looked at


def _look(story: Story) -> None:
    """Whoever asks for it: the next right step is taken, one after the other."""
    story.is_known = True
    if "pending" in story.cards:
        # What Stripe says of the invoice counts, whatever the card will answer.
        story.state = "pending"
        if story.is_settled:
            _end_debt(story)
        return
    _book(story)
    if story.is_settled:
        _close(story)
    elif story.status == "uncollectible":
        story.state = "manual"
    else:
        story.status = "open"
        _climb(story)


def _book(story: Story) -> None:
    """Each payment that arrived pays the invoice, or is credit."""
    arrived = story.by_lightning // story.amount - len(story.booked)
    if None in story.booked:
        story.booked.remove(None)
        ours = story.cell.bill == Bill.MARKED or not story.is_settled
        _count(story, "lightning" if ours else "", story.amount)
    if arrived:
        _count(story, "" if story.is_settled else "wallet", story.remaining)


def _count(story: Story, paid_by: str, asked: int) -> None:
    marked = asked if paid_by else 0
    surplus = story.amount - marked
    story.booked.append((marked, surplus))
    if paid_by:
        story.status, story.remaining, story.paid_by = "paid", 0, paid_by
    if surplus:
        story.credits.append(_posted("surplus", surplus, balance=surplus))


def _close(story: Story) -> None:
    story.state, story.rail = "closed", ""
    if story.status == "paid":
        story.paid_by = story.paid_by or _paid_by(story)
    story.notices.clear()
    _end_debt(story)


def _paid_by(story: Story) -> str:
    if story.cell.bill == Bill.MARKED:
        return "lightning"
    if "paid" in story.cards:
        return "card"
    return "elsewhere" if story.by_card else "credit"


def _end_debt(story: Story) -> None:
    """Nothing is owed: the relays come back, and with them a subscription."""
    story.in_debt = False
    if story.relay == "delinquent":
        story.relay, story.subscription = "active", "another"
        story.notices = {"reactivated"}


def _climb(story: Story) -> None:
    """By wallet, else by card, else by a notice; nothing beside what may pay it."""
    if "pending" in story.wallets:
        story.state = "pending"
        return
    if any("owed" in each for each in story.credits):
        # It is about to be reduced: nobody is charged for the whole.
        story.state = "collecting"
        return
    while story.rail or story.is_rung_due:
        if not story.rail:
            story.rail, story.is_rung_due = "wallet", False
        if not _RAILS[story.rail](story):
            return
    story.state = "pending" if story.is_busy else "manual"


def _by_wallet(story: Story) -> bool:
    """Take this rung; returns whether the next one has its turn."""
    if not story.cell.payer.has_wallet:
        story.rail = "card"
        return True
    story.state = "pending"
    if not story.is_busy:
        story.wallets.append("pending")
        story.rail = "card"
    return False


def _by_card(story: Story) -> bool:
    if not story.cell.payer.has_card or not story.has_customer:
        story.rail = "notice"
        return True
    if story.is_busy:
        story.state = "pending"
        return False
    story.cards.append("paid")
    story.by_card += story.remaining
    story.status, story.remaining = "paid", 0
    _close(story)
    return False


def _by_notice(story: Story) -> bool:
    was_refused = {"refused", "action_required"} & set(story.cards)
    story.notices.add("payment_failed" if was_refused else "invoice_due")
    story.rail = ""
    return True


_RAILS = {"wallet": _by_wallet, "card": _by_card, "notice": _by_notice}


# --- facts


def _posted(reason: str, cents: int, *, note: int = 0, balance: int = 0) -> str:
    return f"{reason} {cents} posted: {note} + {balance}"


def _facts(story: Story) -> Facts:
    is_live = story.subscription != "none"
    return Facts(
        status=story.status,
        remaining=story.remaining,
        by_card=story.by_card,
        by_lightning=story.by_lightning,
        wallets=tuple(sorted(story.wallets)),
        cards=tuple(sorted(story.cards)),
        settlements=tuple(sorted(map(_settlement, story.booked))),
        credits=tuple(sorted(story.credits)),
        state=story.state,
        next_action=story.rail,
        paid_by=story.paid_by,
        relay=story.relay,
        notices=tuple(sorted(story.notices)),
        subscription=story.subscription,
        live=int(is_live),
        quantity=int(is_live),
        in_debt=story.in_debt,
    )


def _settlement(booked: tuple[int, int] | None) -> str:
    if booked is None:
        return "marking 0, surplus 0"
    marked, surplus = booked
    return f"{'marked' if marked else 'credited'} {marked}, surplus {surplus}"
