"""A tenant's year on the clock: what is billed is price times time, to the cent.

Each history is a year of relays that come, go and change their plan, on one customer.
Whatever happens, three sums must agree: the lines of all invoices, what invoices and
balance say is paid, owed or to the tenant's credit, and the price of the time served,
which is computed here from the calendar, without the sandbox's own arithmetic.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.stripe import books
from sandbox.stripe.app import StripeApp
from sandbox.stripe.currencies import minimum_charge
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_wire import Wire

YEAR = 365 * story.DAY
#: Nothing happens before it: each history has a month that renews as it was.
FIRST_STEP = 40 * story.DAY
EXAMPLES = 500
PLANS = ("basic", "growth", "odd")
AMOUNTS = st.tuples(*[st.integers(1, 5_000)] * len(PLANS))
REQUIRED = ("add", "upgrade", "downgrade", "cancel", "add")
OPTIONAL = ("add", "remove", "upgrade", "downgrade", "cancel", "pay", "credit")

#: What the histories of this run had in them.
counts: Counter[str] = Counter()


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, str, int]]:
    """Return (moment in seconds of the year, what happens, a number for choices)."""
    extra = draw(st.lists(st.sampled_from(OPTIONAL), max_size=8))
    steps = draw(st.permutations([*REQUIRED, *extra]))
    moments = draw(
        st.lists(
            st.integers(FIRST_STEP, YEAR - 1),
            min_size=len(steps),
            max_size=len(steps),
            unique=True,
        )
    )
    choices = st.integers(0, 5)
    return [
        (at, step, draw(choices))
        for at, step in zip(sorted(moments), steps, strict=True)
    ]


@dataclass
class Stretch:
    """A time with one quantity of one price, in periods counted from the anchor."""

    amount: int
    anchor: int
    start: int
    end: int

    def price(self) -> Fraction:
        """Return the exact price of the time: each month's share of its amount."""
        return sum(
            (
                Fraction(self.amount * _overlap(self, first, last), last - first)
                for first, last in pairwise(_months(self.anchor, self.end))
            ),
            Fraction(0),
        )


@dataclass
class Tenant:
    """The customer, its relays, and the time it was served."""

    app: StripeApp
    api: Wire
    amounts: dict[str, int]
    prices: dict[str, str]
    customer: str
    card: str
    relays: list[str] = field(default_factory=lambda: ["basic"])
    subscription: str = ""
    anchor: int = 0
    since: int = 0
    served: list[Stretch] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def live(self, step: str, choice: int) -> None:
        """Let something happen, and bring the subscription in step with it."""
        happened = getattr(self, step)(choice)
        if happened:
            self.seen[step] += 1
        self._converge()

    def add(self, choice: int) -> bool:
        self.relays.append(PLANS[choice % len(PLANS)])
        return True

    def remove(self, choice: int) -> bool:
        if self.relays:
            self.relays.pop(choice % len(self.relays))
        return bool(self.relays)

    def upgrade(self, choice: int) -> bool:
        return self._move("basic", "growth")

    def downgrade(self, choice: int) -> bool:
        return self._move("growth", "basic")

    def cancel(self, choice: int) -> bool:
        if not self.relays:
            self._settle_in("basic")
        self.relays = []
        return True

    def pay(self, choice: int) -> bool:
        """Pay what is open: out of band, or with the card where that is enough."""
        unpaid = [one for one in self.invoices() if one["status"] == "open"]
        for number, invoice in enumerate(unpaid):
            enough = invoice["amount_remaining"] >= minimum_charge("usd")
            by_card = (number + choice) % 2 and enough
            how = (
                {"payment_method": self.card} if by_card else {"paid_out_of_band": True}
            )
            self.api.post(f"invoices/{invoice['id']}/pay", **how)
        return bool(unpaid)

    def credit(self, choice: int) -> bool:
        """Credit a part of an invoice: of what it asks for still, or to the balance."""
        wanted = "paid" if choice % 2 else "open"
        for invoice in self.invoices():
            left = invoice["total"] - invoice["pre_payment_credit_notes_amount"]
            left -= invoice["post_payment_credit_notes_amount"]
            if invoice["status"] == "open":
                left = min(left, invoice["amount_remaining"])
            if invoice["status"] != wanted or left < 2:
                continue
            amount = max(1, left // (1 + choice))
            to_balance = {"credit_amount": amount} if wanted == "paid" else {}
            self.api.post(
                "credit_notes", invoice=invoice["id"], amount=amount, **to_balance
            )
            return True
        return False

    def invoices(self) -> list[dict[str, Any]]:
        return self.api.all("invoices", customer=self.customer)

    def end(self) -> None:
        """End the last subscription, and finalize every draft."""
        self.relays = []
        self._converge()
        for invoice in self.invoices():
            if invoice["status"] == "draft":
                self.api.post(f"invoices/{invoice['id']}/finalize")

    def _move(self, old: str, new: str) -> bool:
        """Move a relay to another plan; one is made first where there is none."""
        if old not in self.relays:
            self._settle_in(old)
        self.relays[self.relays.index(old)] = new
        return True

    def _settle_in(self, plan: str) -> None:
        """Have a relay on the plan for an hour, so that there is one to change."""
        self.relays.append(plan)
        self._converge()
        self.app.advance(story.HOUR)

    def _converge(self) -> None:
        self._account_for_time()
        wanted = Counter(self.prices[plan] for plan in self.relays)
        if self.subscription and not wanted:
            self.api.delete(
                f"subscriptions/{self.subscription}", prorate=True, invoice_now=True
            )
            self.subscription = ""
        elif self.subscription:
            self._change(wanted)
        elif wanted:
            self._start(wanted)
        self._billed = Counter(self.relays)

    def _start(self, wanted: Counter[str]) -> None:
        created = self.api.post(
            "subscriptions",
            customer=self.customer,
            items=[
                {"price": price, "quantity": number} for price, number in wanted.items()
            ],
            collection_method="send_invoice",
            days_until_due=7,
        )
        self.subscription, self.anchor = created["id"], created["billing_cycle_anchor"]
        self.since = created["created"]

    def _change(self, wanted: Counter[str]) -> None:
        url = f"subscriptions/{self.subscription}"
        items: list[dict[str, Any]] = []
        for item in self.api.get(url)["items"]["data"]:
            number = wanted.pop(item["price"]["id"], 0)
            change = {"quantity": number} if number else {"deleted": True}
            items.append({"id": item["id"], **change})
        items += [{"price": price, "quantity": n} for price, n in wanted.items()]
        self.api.post(url, items=items)

    def _account_for_time(self) -> None:
        now = self.app.clock.now()
        if self.subscription:
            self.served += [
                Stretch(self.amounts[plan] * number, self.anchor, self.since, now)
                for plan, number in self._billed.items()
            ]
        self.since = now


def _overlap(stretch: Stretch, first: int, last: int) -> int:
    return max(0, min(stretch.end, last) - max(stretch.start, first))


def _months(anchor: int, until: int) -> list[int]:
    start, months = datetime.fromtimestamp(anchor, UTC), [anchor]
    while months[-1] <= until:
        following = start + relativedelta(months=len(months))
        months.append(int(following.timestamp()))
    return months


def _tenant(amounts: tuple[int, ...]) -> Tenant:
    app = StripeApp(seed=1)
    api = Wire(app)
    prices = {
        plan: api.post(
            "prices",
            currency="usd",
            unit_amount=amount,
            recurring={"interval": "month"},
            product_data={"name": plan},
        )["id"]
        for plan, amount in zip(PLANS, amounts, strict=True)
    }
    customer = api.post("customers", email="ann@example.com")["id"]
    card = api.post("payment_methods/pm_card_visa/attach", customer=customer)["id"]
    by_plan = dict(zip(PLANS, amounts, strict=True))
    tenant = Tenant(app, api, by_plan, prices, customer, card)
    tenant._converge()
    return tenant


@pytest.fixture(scope="module", autouse=True)
def _print_counts(request):
    yield
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\nyears:", dict(sorted(counts.items())))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(histories(), AMOUNTS)
def test_a_year_is_billed_for_exactly_what_was_served(history, amounts):
    tenant = _tenant(amounts)
    began = tenant.app.clock.now()
    for at, step, choice in history:
        tenant.app.advance(max(0, began + at - tenant.app.clock.now()))
        tenant.live(step, choice)
    tenant.app.advance(max(0, began + YEAR - tenant.app.clock.now()))
    tenant.end()

    invoices = tenant.invoices()
    lines = [
        line
        for one in invoices
        for line in tenant.api.all(f"invoices/{one['id']}/lines")
    ]
    billed = sum(line["amount"] for line in lines)
    notes = tenant.api.all("credit_notes", customer=tenant.customer)
    credited = sum(
        line["amount"]
        for note in notes
        for line in tenant.api.all(f"credit_notes/{note['id']}/lines")
    )
    exact = sum((stretch.price() for stretch in tenant.served), Fraction(0))
    balance = tenant.api.get(f"customers/{tenant.customer}")["balance"]
    assert billed == sum(invoice["total"] for invoice in invoices)
    assert credited == sum(note["total"] for note in notes)
    assert billed - credited == balance + sum(
        invoice["amount_paid"] + invoice["amount_remaining"] for invoice in invoices
    )
    assert books.audit(tenant.app.store) == []
    assert abs(billed - exact) <= Fraction(len(lines), 2)
    assert len({line["id"] for line in lines}) == len(lines)
    assert not tenant.api.all("invoiceitems", pending=True)

    tenant.seen["renewal"] += sum(
        invoice["billing_reason"] == "subscription_cycle" for invoice in invoices
    )
    assert all(
        tenant.seen[kind] for kind in ("upgrade", "downgrade", "cancel", "renewal")
    )
    counts.update(tenant.seen, years=1, invoices=len(invoices), lines=len(lines))
