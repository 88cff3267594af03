"""Random stories of one subscription with discounts, taxes, changes and reversals.

The price of the served time is reckoned from our own diary, and compared with the money
at Stripe. Nothing is taken from the code under test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any

from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import Reversal
from billing.services.credits.posting import post_credits
from billing.services.credits.recredit import request_recredit
from billing.services.subscriptions.ended import handle_subscription_ended
from billing.tests.support.simulation.invoice_money import cost_of
from billing.tests.support.subscriptions import (
    add_relay,
    finalize_drafts,
    pay_all_invoices,
    post_collect_and_sync,
    sync_until_in_sync,
)
from relays.models import Relay
from relays.services import lifecycle
from sandbox.stripe.client.testing import Sandbox
from sandbox.stripe.store.records import Record
from sandbox.tests.support.stripe import builders
from tenants.models import Tenant

DAY = 86_400
PRICES = {"basic": 500, "growth": 2500}


@dataclass
class Story:
    """A tenant's second month: prices are discounted and taxed, relays come and go.

    `diary` has the monthly cents after each change; `given` what was returned of each
    invoice, `money_returned` the part of it that left our account.
    """

    sandbox: Sandbox
    tenant: Tenant
    random: Random
    log: list[str] = field(default_factory=list)
    diary: list[tuple[int, int]] = field(default_factory=list)
    given: dict[str, int] = field(default_factory=dict)
    money_returned: int = 0
    ended_at: int = 0
    subscription: str = ""

    def run(self) -> None:
        """Play the story to a state in which nothing is left to do."""
        self._start()
        for _ in range(self.random.randint(2, 5)):
            self._wait()
            self._take(self._change, self._pay, self._reverse)
        self._wait()
        self._end()
        for _ in range(self.random.randint(0, 2)):
            self._take(self._pay, self._reverse)

    def _start(self) -> None:
        add_relay(self.tenant, "growth")
        sync_until_in_sync(self.tenant)
        pay_all_invoices(self.sandbox)
        self.subscription = str(self.tenant.stripe_subscription_id)
        percent, tax = self.random.choice([0, 30, 50, 100]), self.random.choice([0, 20])
        self.log.append(f"{percent} % off, {tax} % tax")
        params: dict[str, Any] = {}
        if percent:
            made = builders.coupon(self._api, percent_off=percent)
            params["discounts"] = [{"coupon": made.id}]
        if tax:
            inclusive = self.random.random() < 0.3
            rate = builders.tax_rate(self._api, tax, inclusive=inclusive)
            params["default_tax_rates"] = [rate.id]
            tax = 0 if inclusive else tax
        self.factor = Fraction(100 - percent, 100) * Fraction(100 + tax, 100)
        self._api.v1.subscriptions.update(self.subscription, params)
        (line,) = self.invoices[0]["_lines"]
        self.sandbox.advance(line["period"]["end"] - self._now)
        self.diary.append((self._now, PRICES["growth"]))
        finalize_drafts(self.sandbox)
        post_collect_and_sync(self.tenant)

    # --- steps

    def _take(self, *steps: Callable[[], None]) -> None:
        step = self.random.choice(steps)
        self.log.append(step.__name__)
        step()

    def _wait(self) -> None:
        self.sandbox.advance(self.random.randint(1, 4 * DAY))

    def _change(self) -> None:
        running = list(Relay.objects.billable().filter(tenant=self.tenant))
        if len(running) > 1 and self.random.random() < 0.5:
            lifecycle.deactivate_relay(relay_id=self.random.choice(running).pk)
        else:
            add_relay(self.tenant, self.random.choice(list(PRICES)))
        sync_until_in_sync(self.tenant)
        running = list(Relay.objects.billable().filter(tenant=self.tenant))
        self.diary.append((self._now, sum(PRICES[relay.plan_id] for relay in running)))

    def _pay(self) -> None:
        finalize_drafts(self.sandbox)
        for invoice in self.invoices:
            if invoice["status"] == "open":
                card = builders.card(self._api, self._customer)
                self._api.v1.invoices.pay(invoice["id"], {"payment_method": card.id})
        self._settle()

    def _reverse(self) -> None:
        """Return a part of an invoice: by a refund, a dispute, or a note of staff."""
        invoice = self.random.choice(self.invoices)
        left = invoice["total"] - self.given.get(invoice["id"], 0)
        notes = sum(
            invoice[f"{kind}_payment_credit_notes_amount"] for kind in ("pre", "post")
        )
        left = min(left, invoice["total"] - notes)
        if invoice["status"] == "open":
            left = min(left, invoice["amount_remaining"])
        if left <= 0 or invoice["status"] not in {"open", "paid"}:
            return
        cents = self.random.choice([left, self.random.randint(1, left)])
        if invoice["status"] == "open":
            self._note(invoice, cents)
        else:
            self.random.choice([self._refund, self._dispute, self._note])(
                invoice, cents
            )
        self.given[invoice["id"]] = self.given.get(invoice["id"], 0) + cents
        self._settle()

    def _note(self, invoice: Record, cents: int) -> None:
        how: dict[str, int] = {}
        if invoice["status"] == "paid":
            name = self.random.choice(["credit_amount", "out_of_band_amount"])
            how = {name: cents}
            self.money_returned += cents if name == "out_of_band_amount" else 0
        params: Any = {"invoice": invoice["id"], "amount": cents, **how}
        self._api.v1.credit_notes.create(params)

    def _refund(self, invoice: Record, cents: int) -> None:
        self._record(invoice, "refund", "succeeded", cents)

    def _dispute(self, invoice: Record, cents: int) -> None:
        self._record(invoice, "dispute", "lost", cents)

    def _record(self, invoice: Record, kind: str, state: str, cents: int) -> None:
        """Record a reversal, as the handlers of its events do."""
        self.money_returned += cents
        Reversal.objects.create(
            stripe_id=f"{kind}_{Reversal.objects.count()}",
            kind=kind,
            state=state,
            tenant=self.tenant,
            collection_id=invoice["id"],
            amount_cents=cents,
            currency="usd",
            charge_id="ch_1",
            created_at=timezone.now(),
        )

    def _end(self) -> None:
        how = self.random.choice(["us", "us", "us", "staff"])
        self.log.append(f"end by {how}")
        if how == "staff":
            prorate = self.random.random() < 0.5
            self._api.v1.subscriptions.cancel(
                self.subscription, {"prorate": prorate, "invoice_now": True}
            )
            ended = Stripe().subscriptions.get(self.subscription)
            handle_subscription_ended(tenant_id=self.tenant.pk, subscription=ended)
        for relay in Relay.objects.billable().filter(tenant=self.tenant):
            lifecycle.deactivate_relay(relay_id=relay.pk)
        sync_until_in_sync(self.tenant)
        subscription = self._store.get("subscription", self.subscription) or {}
        self.ended_at = subscription["ended_at"]
        self._settle()

    def _settle(self) -> None:
        request_recredit(tenant_id=self.tenant.pk, subscription_id=self.subscription)
        sync_until_in_sync(self.tenant)
        assert post_credits(tenant_id=self.tenant.pk)

    # --- sums

    @property
    def price(self) -> Fraction:
        """Price of the served time: the first month, then what the diary says."""
        (line,) = self.invoices[0]["_lines"]
        start = line["period"]["end"]
        renewal = next(
            line
            for line in self.invoices[1]["_lines"]
            if line["period"]["start"] == start
        )
        length = renewal["period"]["end"] - start
        bounds = [*self.diary, (self.ended_at, 0)]
        cents = sum(
            Fraction(monthly * (until - since), length)
            for (since, monthly), (until, _) in pairwise(bounds)
        )
        return PRICES["growth"] + cents * self.factor

    @property
    def gifts(self) -> Fraction:
        """Amount returned of each invoice beyond its unused time."""
        return sum(
            (
                max(Fraction(), self.given[invoice["id"]] - self._unserved(invoice))
                for invoice in self.invoices
                if invoice["id"] in self.given
            ),
            Fraction(),
        )

    @property
    def money(self) -> int:
        """Captured, less given and taken back, plus owed, less credit, in cents."""
        invoices, customer = self.invoices, self._store.get("customer", self._customer)
        remaining = sum(invoice["amount_remaining"] for invoice in invoices)
        captured = sum(
            invoice["amount_paid"] for invoice in invoices if invoice["total"] > 0
        )
        balance = int((customer or {})["balance"])
        return int(captured + remaining + balance - self.money_returned)

    @property
    def tolerance(self) -> int:
        """A cent of rounding for each line."""
        return sum(len(invoice["_lines"]) for invoice in self.invoices) + len(
            self.diary
        )

    @property
    def invoices(self) -> list[Record]:
        """All invoices, oldest first."""
        return sorted(
            self._store.scan("invoice"), key=lambda invoice: int(invoice["created"])
        )

    def _unserved(self, invoice: Record) -> Fraction:
        return max(
            Fraction(),
            sum((self._unused(line) for line in invoice["_lines"]), Fraction()),
        )

    def _unused(self, line: Record) -> Fraction:
        start, end = line["period"]["start"], line["period"]["end"]
        left = Fraction(end - self.ended_at, end - start) if end > start else Fraction()
        return cost_of(line) * max(Fraction(), min(left, Fraction(1)))

    @property
    def _api(self) -> Any:
        return self.sandbox.client()

    @property
    def _store(self) -> Any:
        return self.sandbox.app.store

    @property
    def _customer(self) -> str:
        return str(self.tenant.stripe_customer_id)

    @property
    def _now(self) -> int:
        return int(self.sandbox.app.clock.now())
