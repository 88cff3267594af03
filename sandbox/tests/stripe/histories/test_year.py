"""Random years of a tenant, billed to the cent.

In each history one customer adds and removes relays and changes their plans for a year.
Three sums must agree: the lines of all invoices; the paid, open and balance amounts;
and the price of the time served, computed here from the calendar without the sandbox's
arithmetic.
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

from caravel.tests.support import search
from sandbox.stripe.app import StripeApp
from sandbox.stripe.money.currencies import minimum_charge
from sandbox.tests.support.stripe import audit, builders
from sandbox.tests.support.stripe.wire import Wire

YEAR = 365 * builders.DAY
#: No step is earlier, so each history has a renewal without changes.
FIRST_STEP = 40 * builders.DAY
PLANS = ("basic", "growth", "odd")
AMOUNTS = st.tuples(*[st.integers(1, 5_000)] * len(PLANS))
REQUIRED = ("add", "upgrade", "downgrade", "cancel", "add")
OPTIONAL = ("add", "remove", "upgrade", "downgrade", "cancel", "pay", "credit")

#: Number of steps, by kind, in all histories of this run.
counts: Counter[str] = Counter()


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, str, int]]:
    """Return rows of (second of the year, step, number for the step's choices)."""
    extra = draw(st.lists(st.sampled_from(OPTIONAL), max_size=8))
    steps = draw(st.permutations([*REQUIRED, *extra]))
    times = draw(
        st.lists(
            st.integers(FIRST_STEP, YEAR - 1),
            min_size=len(steps),
            max_size=len(steps),
            unique=True,
        )
    )
    choices = st.integers(0, 5)
    return [
        (at, step, draw(choices)) for at, step in zip(sorted(times), steps, strict=True)
    ]


@dataclass
class Stretch:
    """Time served at one amount a month, in periods counted from the anchor."""

    amount: int
    anchor: int
    start: int
    end: int

    def price(self) -> Fraction:
        """Return the exact price: the amount times the served part of each month."""
        return sum(
            (
                Fraction(self.amount * _overlap(self, first, last), last - first)
                for first, last in pairwise(_months(self.anchor, self.end))
            ),
            Fraction(0),
        )


@dataclass
class Tenant:
    """A customer, its relays, and the time it was served."""

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
    step_counts: Counter[str] = field(default_factory=Counter)

    def run(self, step: str, choice: int) -> None:
        """Run a step, then update the subscription to match the relays."""
        was_applied = getattr(self, step)(choice)
        if was_applied:
            self.step_counts[step] += 1
        self._sync()

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
            self._add_relay_for_an_hour("basic")
        self.relays = []
        return True

    def pay(self, choice: int) -> bool:
        """Pay open invoices, alternately by card (if chargeable) and out of band."""
        unpaid = [invoice for invoice in self.invoices() if invoice["status"] == "open"]
        for number, invoice in enumerate(unpaid):
            chargeable = invoice["amount_remaining"] >= minimum_charge("usd")
            by_card = (number + choice) % 2 and chargeable
            params = (
                {"payment_method": self.card} if by_card else {"paid_out_of_band": True}
            )
            self.api.post(f"invoices/{invoice['id']}/pay", **params)
        return bool(unpaid)

    def credit(self, choice: int) -> bool:
        """Credit a part of an open invoice, or of a paid one to the balance."""
        status = "paid" if choice % 2 else "open"
        for invoice in self.invoices():
            creditable = invoice["total"] - invoice["pre_payment_credit_notes_amount"]
            creditable -= invoice["post_payment_credit_notes_amount"]
            if invoice["status"] == "open":
                creditable = min(creditable, invoice["amount_remaining"])
            if invoice["status"] != status or creditable < 2:
                continue
            amount = max(1, creditable // (1 + choice))
            to_balance = {"credit_amount": amount} if status == "paid" else {}
            self.api.post(
                "credit_notes", invoice=invoice["id"], amount=amount, **to_balance
            )
            return True
        return False

    def invoices(self) -> list[dict[str, Any]]:
        return self.api.all("invoices", customer=self.customer)

    def end(self) -> None:
        """End the last subscription and finalize all drafts."""
        self.relays = []
        self._sync()
        for invoice in self.invoices():
            if invoice["status"] == "draft":
                self.api.post(f"invoices/{invoice['id']}/finalize")

    def _move(self, old: str, new: str) -> bool:
        """Move a relay to another plan, after adding one if none has the old plan."""
        if old not in self.relays:
            self._add_relay_for_an_hour(old)
        self.relays[self.relays.index(old)] = new
        return True

    def _add_relay_for_an_hour(self, plan: str) -> None:
        """Add a relay and let an hour pass, so that its time is billed."""
        self.relays.append(plan)
        self._sync()
        self.app.advance(builders.HOUR)

    def _sync(self) -> None:
        self._record_served_time()
        quantities = Counter(self.prices[plan] for plan in self.relays)
        if self.subscription and not quantities:
            self.api.delete(
                f"subscriptions/{self.subscription}", prorate=True, invoice_now=True
            )
            self.subscription = ""
        elif self.subscription:
            self._change(quantities)
        elif quantities:
            self._start(quantities)
        self._subscribed_plans = Counter(self.relays)

    def _start(self, quantities: Counter[str]) -> None:
        created = self.api.post(
            "subscriptions",
            customer=self.customer,
            items=[
                {"price": price, "quantity": number}
                for price, number in quantities.items()
            ],
            collection_method="send_invoice",
            days_until_due=7,
        )
        self.subscription, self.anchor = created["id"], created["billing_cycle_anchor"]
        self.since = created["created"]

    def _change(self, quantities: Counter[str]) -> None:
        url = f"subscriptions/{self.subscription}"
        items: list[dict[str, Any]] = []
        for item in self.api.get(url)["items"]["data"]:
            number = quantities.pop(item["price"]["id"], 0)
            change = {"quantity": number} if number else {"deleted": True}
            items.append({"id": item["id"], **change})
        items += [{"price": price, "quantity": n} for price, n in quantities.items()]
        self.api.post(url, items=items)

    def _record_served_time(self) -> None:
        now = self.app.clock.now()
        if self.subscription:
            self.served += [
                Stretch(self.amounts[plan] * number, self.anchor, self.since, now)
                for plan, number in self._subscribed_plans.items()
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
    tenant._sync()
    return tenant


@pytest.fixture(scope="module", autouse=True)
def _print_counts(request):
    yield
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\nyears:", dict(sorted(counts.items())))


@pytest.mark.search
@settings(
    max_examples=search.examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(histories(), AMOUNTS)
def test_random_year_is_billed_to_the_cent_for_the_time_served(history, amounts):
    tenant = _tenant(amounts)
    start = tenant.app.clock.now()
    for at, step, choice in history:
        tenant.app.advance(max(0, start + at - tenant.app.clock.now()))
        tenant.run(step, choice)
    tenant.app.advance(max(0, start + YEAR - tenant.app.clock.now()))
    tenant.end()

    invoices = tenant.invoices()
    lines = [
        line
        for invoice in invoices
        for line in tenant.api.all(f"invoices/{invoice['id']}/lines")
    ]
    billed = sum(line["amount"] for line in lines)
    notes = tenant.api.all("credit_notes", customer=tenant.customer)
    credited = sum(line["amount"] for note in notes for line in note["lines"]["data"])
    exact = sum((stretch.price() for stretch in tenant.served), Fraction(0))
    balance = tenant.api.get(f"customers/{tenant.customer}")["balance"]
    assert billed == sum(invoice["total"] for invoice in invoices)
    assert credited == sum(note["total"] for note in notes)
    assert billed - credited == balance + sum(
        invoice["amount_paid"] + invoice["amount_remaining"] for invoice in invoices
    )
    assert audit.audit(tenant.app.store) == []
    assert abs(billed - exact) <= Fraction(len(lines), 2)
    assert len({line["id"] for line in lines}) == len(lines)
    assert not tenant.api.all("invoiceitems", pending=True)

    tenant.step_counts["renewal"] += sum(
        invoice["billing_reason"] == "subscription_cycle" for invoice in invoices
    )
    assert all(
        tenant.step_counts[kind]
        for kind in ("upgrade", "downgrade", "cancel", "renewal")
    )
    counts.update(tenant.step_counts, years=1, invoices=len(invoices), lines=len(lines))
