"""Whatever people, wallets, Stripe and crashes do in whatever order: the books agree.

A failure names the steps that lead to it. `MACHINE_EXAMPLES` plays so many random
histories instead of the few that are always the same.
"""

import os
import sys
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing.models import InvoiceCollection
from billing.tests.books import faults_at_any_time, faults_in_the_end
from billing.tests.deeds import Payer, People
from billing.tests.world import Ground, World
from sandbox.wallets.behaviour import (
    IGNORES,
    LIES,
    PAYS,
    PAYS_IN_SILENCE,
    Paying,
    pays_after,
    pays_but_says,
    refuses,
    settles_late,
)

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

#: How many random histories are played; none: a few that are always the same.
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))
_PROFILE: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
    "print_blob": True,
    "report_multiple_bugs": False,
}
ALWAYS_THE_SAME = profile(
    max_examples=12, stateful_step_count=12, derandomize=True, **_PROFILE
)
RANDOM = profile(max_examples=EXAMPLES or 1, stateful_step_count=25, **_PROFILE)

WALLETS: dict[str, Paying] = {
    "pays": PAYS,
    "pays in silence": PAYS_IN_SILENCE,
    "ignores": IGNORES,
    "lies": LIES,
    "pays later": pays_after(1_800),
    "refuses": refuses("INSUFFICIENT_BALANCE"),
    "is too busy": refuses("RATE_LIMITED"),
    "pays but says no": pays_but_says("INTERNAL"),
    "pays after it failed": settles_late(4_000),
}
CARDS = ("pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired")
BANKS = ("pm_card_visa", "pm_card_authenticationRequired")
SPANS = {
    "a minute": timedelta(minutes=1),
    "twenty minutes": timedelta(minutes=20),
    "an hour": timedelta(hours=1),
    "three hours": timedelta(hours=3),
    "a day": timedelta(days=1),
    "four days": timedelta(days=4),
    "eight days": timedelta(days=8),
    "a month": timedelta(days=31),
}

numbers = st.integers(0, 3)
wallets = st.sampled_from(sorted(WALLETS))
spans = st.sampled_from(list(SPANS))


class Machine(RuleBasedStateMachine):
    """Two tenants at most, and all that can happen to them."""

    ground: ClassVar[Ground]

    @initialize(seed=st.integers(0, 1_000), turns=st.sampled_from([0.0, 0.3]))
    def begin(self, seed: int, turns: float) -> None:
        self.world = World(self.ground, seed=seed)
        self.world.__enter__()
        self.world.workers.interleaving = turns
        self.world.workers.repeating = turns
        self.people = People(self.world)

    # --- tenants

    @precondition(lambda self: len(self.people.payers) < 2)
    @rule(
        plan=st.sampled_from(["basic", "growth"]),
        wallet=st.none() | wallets,
        card=st.sampled_from(["", *CARDS]),
    )
    def move_in(self, plan: str, wallet: str | None, card: str) -> None:
        behaviour = WALLETS[wallet] if wallet else None
        self.people.move_in(plan=plan, wallet=behaviour, card=card)

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers, plan=st.sampled_from(["free", "basic", "growth"]))
    def add_relay(self, payer: int, plan: str) -> None:
        self.people.add_relay(self._payer(payer), plan)

    @precondition(lambda self: self.people.payers)
    @rule(
        payer=numbers,
        relay=numbers,
        to=st.sampled_from(["on", "off", "free", "basic", "growth"]),
    )
    def change_relay(self, payer: int, relay: int, to: str) -> None:
        relays = self._payer(payer).relays
        if not relays:
            return
        chosen = relays[relay % len(relays)].pk
        if to == "on":
            self.people.switch_on(chosen)
        elif to == "off":
            self.people.switch_off(chosen)
        else:
            self.people.change_plan(chosen, to)

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers, exempt=st.booleans(), paused=st.booleans())
    def set_switches(self, payer: int, exempt: bool, paused: bool) -> None:
        self.people.set_switches(
            self._payer(payer), dunning_exempt=exempt, autopay_paused=paused
        )

    # --- wallets and cards

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers, wallet=wallets)
    def connect(self, payer: int, wallet: str) -> None:
        self.people.connect(self._payer(payer), WALLETS[wallet])

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers)
    def disconnect(self, payer: int) -> None:
        self.people.disconnect(self._payer(payer))

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers, wallet=wallets)
    def behave(self, payer: int, wallet: str) -> None:
        for one in self._payer(payer).wallets:
            one.behaviour = WALLETS[wallet]

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers)
    def wallet_goes_off(self, payer: int) -> None:
        for one in self._payer(payer).wallets[-1:]:
            one.go_offline()

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers)
    def wallet_comes_back(self, payer: int) -> None:
        self.people.come_back(self._payer(payer))

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers, card=st.sampled_from(CARDS))
    def attach(self, payer: int, card: str) -> None:
        self.people.attach(self._payer(payer), card)

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers)
    def detach_cards(self, payer: int) -> None:
        self.people.detach_cards(self._payer(payer))

    # --- persons who pay

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers)
    def ask_for_bolt11(self, number: int) -> None:
        self.people.ask_for_bolt11(self._unpaid(number))

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers)
    def ask_for_bolt11_amid_a_call(self, number: int) -> None:
        invoice = self._unpaid(number)
        self.world.workers.meanwhile(lambda: self.people.ask_for_bolt11(invoice))

    @precondition(lambda self: self.people.payers)
    @rule(newest=st.booleans())
    def pay_shown(self, newest: bool) -> None:
        self.people.pay_shown(newest)

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers, card=st.sampled_from(BANKS))
    def pay_on_page(self, number: int, card: str) -> None:
        self.people.pay_on_page(self._unpaid(number), card)

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers)
    def pay_on_page_amid_a_call(self, number: int) -> None:
        invoice = self._unpaid(number)
        self.world.workers.meanwhile(lambda: self.people.pay_on_page(invoice))

    # --- support, and people at Stripe

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers)
    def press_collect(self, number: int) -> None:
        self.people.press_collect(self._unpaid(number))

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers, amount=st.sampled_from([1, 250, 500]))
    def credit(self, number: int, amount: int) -> None:
        self.people.credit(self._unpaid(number), amount)

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers, how=st.sampled_from(["void", "write off"]))
    def give_up(self, number: int, how: str) -> None:
        deed = self.people.void if how == "void" else self.people.write_off
        deed(self._unpaid(number))

    @precondition(lambda self: self._unpaid(0))
    @rule(number=numbers, days=st.sampled_from([-8, 3]))
    def move_suspension(self, number: int, days: int) -> None:
        self.people.move_suspension(self._unpaid(number), timedelta(days=days))

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers)
    def cancel_at_stripe(self, payer: int) -> None:
        self.people.cancel_at_stripe(self._payer(payer))

    @precondition(lambda self: self.people.payers)
    @rule(payer=numbers)
    def delete_customer(self, payer: int) -> None:
        self.people.delete_customer(self._payer(payer))

    # --- what goes wrong

    @rule(
        kind=st.sampled_from(["reset", "status"]),
        status=st.sampled_from([500, 429]),
        when=st.sampled_from(["before", "after"]),
        path=st.sampled_from(["", "/pay", "/finalize", "^/v1/subscriptions"]),
        times=st.sampled_from([1, 3, 12]),
    )
    def stripe_fails(
        self, kind: Any, status: int, when: Any, path: str, times: int
    ) -> None:
        self.world.stripe.fault(
            kind, method=None, status=status, when=when, path=path, times=times
        )

    @rule(
        kind=st.sampled_from(["drop", "duplicate", "reorder", "delay"]),
        times=st.sampled_from([1, 5, None]),
    )
    def webhooks_fail(self, kind: Any, times: int | None) -> None:
        self.world.stripe.webhook_fault(kind, times=times, seconds=900)

    @rule(points=st.integers(0, 40))
    def a_worker_dies(self, points: int) -> None:
        self.world.workers.kill_after(points)

    @rule()
    def the_broker_forgets(self) -> None:
        self.world.workers.lose_messages()

    # --- time

    @rule()
    def work(self) -> None:
        self.world.run()

    @rule(span=spans)
    def time_passes(self, span: str) -> None:
        self.world.advance(SPANS[span])

    @rule()
    def all_goes_well(self) -> None:
        self._settle()

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert faults_at_any_time(self.world) == []

    def teardown(self) -> None:
        """End the world; a history that went well so far must end well."""
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self._settle()
        finally:
            self.world.__exit__()

    # ---

    def _settle(self) -> None:
        for payer in self.people.payers:
            self.people.come_back(payer)
            for wallet in payer.wallets:
                wallet.behaviour = PAYS
        self.world.settle()
        assert faults_in_the_end(self.world) == []

    def _payer(self, number: int) -> Payer:
        payers = self.people.payers
        return payers[number % len(payers)]

    def _unpaid(self, number: int) -> str:
        """Return one of the unpaid invoices, "" without any."""
        unpaid = InvoiceCollection.objects.unpaid().order_by("created_at", "pk")
        found = list(unpaid.values_list("pk", flat=True))
        return found[number % len(found)] if found else ""


#: Seconds for which a failing history is made shorter.
SHRINKING = 90


def play(ground: Ground, settings: profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play histories on this ground."""
    monkeypatch.setattr(engine, "MAX_SHRINKING_SECONDS", SHRINKING)
    machine = type("Machine", (Machine,), {"ground": ground})
    run_state_machine_as_test(machine, settings=settings)


@pytest.mark.skipif(EXAMPLES > 0, reason="random histories are asked for")
def test_histories_that_are_always_the_same(worlds, monkeypatch):
    play(worlds, ALWAYS_THE_SAME, monkeypatch)


@pytest.mark.skipif(EXAMPLES == 0, reason="MACHINE_EXAMPLES is not set")
def test_random_histories(worlds, monkeypatch):
    play(worlds, RANDOM, monkeypatch)
