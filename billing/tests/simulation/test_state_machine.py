"""Whatever people, wallets, Stripe and crashes do in whatever order: the books agree.

A failure names the steps that lead to it. `MACHINE_EXAMPLES` plays so many random
histories instead of the few that are always the same.
"""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from billing.models import InvoiceCollection
from billing.tests.support.simulation.actions import Payer, People
from billing.tests.support.simulation.invariants import (
    faults_at_any_time,
    faults_in_the_end,
)
from billing.tests.support.simulation.system import Ground, World
from sandbox.wallets.behaviour import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    PaymentBehaviour,
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
    max_examples=10, stateful_step_count=10, derandomize=True, **_PROFILE
)
RANDOM = profile(max_examples=max(EXAMPLES, 1), stateful_step_count=20, **_PROFILE)

WALLETS: dict[str, PaymentBehaviour] = {
    "pays": PAYS,
    "pays in silence": PAYS_WITHOUT_ANSWER,
    "ignores": STAYS_SILENT,
    "lies": CLAIMS_FALSELY,
    "pays later": pays_after(1_800),
    "refuses": refuses("INSUFFICIENT_BALANCE"),
    "is too busy": refuses("RATE_LIMITED"),
    "pays but says no": pays_but_says("INTERNAL"),
    "pays after it failed": settles_late(4_000),
}
CARDS = ("pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired")
PLANS = ("basic", "growth", "free")
SPANS = {
    "nothing": timedelta(0),
    "a minute": timedelta(minutes=1),
    "twenty minutes": timedelta(minutes=20),
    "three hours": timedelta(hours=3),
    "a day": timedelta(days=1),
    "four days": timedelta(days=4),
    "eight days": timedelta(days=8),
    "a month": timedelta(days=31),
}
#: What people do, and how often in comparison.
DEEDS = {
    "add_relay": 2,
    "switch_off": 2,
    "switch_on": 2,
    "change_plan": 2,
    "set_switches": 1,
    "connect": 3,
    "disconnect": 1,
    "behave": 2,
    "go_offline": 1,
    "come_back": 1,
    "attach": 3,
    "detach": 1,
    "ask": 3,
    "ask_amid_a_call": 2,
    "pay_shown": 4,
    "pay_on_page": 2,
    "pay_on_page_amid_a_call": 2,
    "collect": 1,
    "credit": 1,
    "void": 1,
    "write_off": 1,
    "move_suspension": 1,
    "cancel_at_stripe": 1,
    "delete_customer": 1,
}
TROUBLES = (
    "a worker dies",
    "the broker forgets",
    "webhooks are dropped",
    "webhooks are mixed up",
    "Stripe fails before",
    "Stripe fails after",
)

numbers = st.integers(0, 3)
spans = st.sampled_from(list(SPANS))
deeds = st.sampled_from([name for name, times in DEEDS.items() for _ in range(times)])
behaviours = st.sampled_from(sorted(WALLETS))
newcomers = st.tuples(
    st.sampled_from(PLANS[:2]),
    st.none() | behaviours,
    st.sampled_from(["", *CARDS]),
)


class Machine(RuleBasedStateMachine):
    """A few tenants, and all that can happen to them."""

    ground: ClassVar[Ground]

    @initialize(
        seed=st.integers(0, 1_000),
        turns=st.sampled_from([0.0, 0.3]),
        payers=st.lists(newcomers, min_size=1, max_size=2),
    )
    def begin(
        self,
        seed: int,
        turns: float,
        payers: list[tuple[str, str | None, str]],
    ) -> None:
        self.world = World(self.ground, seed=seed)
        self.world.__enter__()
        self.world.workers.interleaving = turns
        self.world.workers.repeating = turns
        self.people = People(self.world)
        for plan, wallet, card in payers:
            behaviour = WALLETS[wallet] if wallet else None
            self.people.move_in(plan=plan, wallet=behaviour, card=card)

    @rule(deed=deeds, which=numbers, how=numbers, then=spans)
    def somebody_acts(self, deed: str, which: int, how: int, then: str) -> None:
        """Somebody does something, to one of several or in one of several ways."""
        getattr(self, f"do_{deed}")(which, how)
        self._let_pass(then)

    @rule(wallet=behaviours, which=numbers, then=spans)
    def a_wallet_changes(self, wallet: str, which: int, then: str) -> None:
        for one in self._payer(which).wallets:
            one.behaviour = WALLETS[wallet]
        self._let_pass(then)

    @rule(trouble=st.sampled_from(TROUBLES), how=st.integers(0, 40), then=spans)
    def something_goes_wrong(self, trouble: str, how: int, then: str) -> None:
        self._trouble(trouble, how)
        self._let_pass(then)

    @rule(then=spans)
    def time_passes(self, then: str) -> None:
        self._let_pass(then)

    @rule()
    def all_goes_well(self) -> None:
        self._settle()

    # --- deeds

    def do_add_relay(self, which: int, how: int) -> None:
        self.people.add_relay(self._payer(which), PLANS[how % 3])

    def do_switch_off(self, which: int, how: int) -> None:
        for relay in self._relay(which, how):
            self.people.switch_off(relay)

    def do_switch_on(self, which: int, how: int) -> None:
        for relay in self._relay(which, how):
            self.people.switch_on(relay)

    def do_change_plan(self, which: int, how: int) -> None:
        for relay in self._relay(which, 0):
            self.people.change_plan(relay, PLANS[how % 3])

    def do_set_switches(self, which: int, how: int) -> None:
        switches = {"dunning_exempt": how == 1, "autopay_paused": how == 2}
        self.people.set_switches(self._payer(which), **switches)

    def do_connect(self, which: int, how: int) -> None:
        self.people.connect(self._payer(which), list(WALLETS.values())[how])

    def do_disconnect(self, which: int, how: int) -> None:
        self.people.disconnect(self._payer(which))

    def do_behave(self, which: int, how: int) -> None:
        for one in self._payer(which).wallets:
            one.behaviour = PAYS if how else STAYS_SILENT

    def do_go_offline(self, which: int, how: int) -> None:
        for one in self._payer(which).wallets[-1:]:
            one.go_offline()

    def do_come_back(self, which: int, how: int) -> None:
        self.people.come_back(self._payer(which))

    def do_attach(self, which: int, how: int) -> None:
        self.people.attach(self._payer(which), CARDS[how % 3])

    def do_detach(self, which: int, how: int) -> None:
        self.people.detach_cards(self._payer(which))

    def do_ask(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self.people.ask_for_bolt11(invoice)

    def do_ask_amid_a_call(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self._meanwhile(partial(self.people.ask_for_bolt11, invoice), 3 * how)

    def do_pay_shown(self, which: int, how: int) -> None:
        self.people.pay_shown(newest=how < 3)

    def do_pay_on_page(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self.people.pay_on_page(invoice, CARDS[how % 3])

    def do_pay_on_page_amid_a_call(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self._meanwhile(partial(self.people.pay_on_page, invoice), 3 * how)

    def do_collect(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self.people.press_collect(invoice)

    def do_credit(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self.people.credit(invoice, [1, 100, 250, 500][how])

    def do_void(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self.people.void(invoice)

    def do_write_off(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            self.people.write_off(invoice)

    def do_move_suspension(self, which: int, how: int) -> None:
        for invoice in self._unpaid(which):
            by = timedelta(days=-8 if how % 2 else 3)
            self.people.move_suspension(invoice, by)

    def do_cancel_at_stripe(self, which: int, how: int) -> None:
        self.people.cancel_at_stripe(self._payer(which))

    def do_delete_customer(self, which: int, how: int) -> None:
        self.people.delete_customer(self._payer(which))

    def _trouble(self, trouble: str, how: int) -> None:
        world, stripe = self.world, self.world.stripe
        if trouble == "a worker dies":
            world.workers.kill_after(how)
        elif trouble == "the broker forgets":
            world.workers.lose_messages()
        elif trouble == "webhooks are dropped":
            stripe.webhook_fault("drop", times=how or None)
        elif trouble == "webhooks are mixed up":
            stripe.webhook_fault("duplicate", times=how % 5 + 1)
            stripe.webhook_fault("reorder", times=how % 5 + 1)
            stripe.webhook_fault("delay", times=how % 7 + 1, seconds=900)
        else:
            self._break_stripe("after" if "after" in trouble else "before", how)

    def _break_stripe(self, when: Any, how: int) -> None:
        """Let the next requests of one kind fail, often or not, in one way."""
        path = ("", "/pay", "/finalize", "/v1/subscriptions", "/v1/credit")[how % 5]
        kind: Any = ("reset", "status")[how % 2]
        times, status = (1, 3, 12)[how % 3], (500, 429)[how // 5 % 2]
        method = "POST" if path else None
        self.world.stripe.fault(
            kind, method=method, status=status, when=when, path=path, times=times
        )

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
                self.people.move_out()
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

    def _let_pass(self, span: str) -> None:
        self.world.run()
        if SPANS[span]:
            self.world.advance(SPANS[span])

    def _meanwhile(self, deed: Callable[[], object], after: int) -> None:
        """Have something done in the midst of a worker's calls to somebody."""
        self.world.workers.meanwhile(deed, after=after)

    def _payer(self, number: int) -> Payer:
        payers = self.people.payers
        return payers[number % len(payers)]

    def _relay(self, which: int, number: int) -> list[UUID]:
        """Return one of a tenant's relays, if it has any."""
        relays = [relay.pk for relay in self._payer(which).relays]
        return [relays[number % len(relays)]] if relays else []

    def _unpaid(self, number: int) -> list[str]:
        """Return one of the unpaid invoices, if there are any."""
        unpaid = InvoiceCollection.objects.unpaid().order_by("created_at", "pk")
        found = list(unpaid.values_list("pk", flat=True))
        return [found[number % len(found)]] if found else []


#: Seconds for which a failing history is made shorter.
SHRINKING = 90


def play(ground: Ground, settings: profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play histories on this ground."""
    monkeypatch.setattr(engine, "MAX_SHRINKING_SECONDS", SHRINKING)
    machine = type("Machine", (Machine,), {"ground": ground})
    run_state_machine_as_test(machine, settings=settings)


def test_whatever_happens_the_books_agree(worlds, monkeypatch):
    play(worlds, RANDOM if EXAMPLES else ALWAYS_THE_SAME, monkeypatch)
