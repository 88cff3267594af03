"""Random histories of actions, faults and crashes: the invariants hold.

A failure prints the steps that lead to it. A usual run plays two histories, the same
each time: they show that the actions still work. Searching is left to `make search`,
since few histories find few faults.
"""

import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.conf import settings as django_settings
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
from billing.tests.support.simulation.actions import Actions, Payer
from billing.tests.support.simulation.invariants import (
    final_faults,
    immediate_faults,
)
from billing.tests.support.simulation.real_wallets import (
    OWN_WALLETS,
    change_own_wallet,
    decide_contradictions,
    meet_contradiction,
    restore_own_wallet,
)
from billing.tests.support.simulation.staff import STAFF_ACTIONS
from billing.tests.support.simulation.staff.banks import processing, settle_debit
from billing.tests.support.simulation.staff.holds import allow_finalization
from billing.tests.support.simulation.staff.objects import request
from billing.tests.support.simulation.system import Servers, System
from caravel.tests.support import search
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

_PROFILE: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
    "print_blob": True,
    "report_multiple_bugs": False,
}
DETERMINISTIC = profile(
    max_examples=2, stateful_step_count=10, derandomize=True, **_PROFILE
)
RANDOM = profile(max_examples=search.examples(2), stateful_step_count=20, **_PROFILE)
#: Random searches, so that two processes share them.
PARTS = 2 if search.IS_LARGE else 1

WALLETS: dict[str, PaymentBehaviour] = {
    "pays": PAYS,
    "pays in silence": PAYS_WITHOUT_ANSWER,
    "ignores": STAYS_SILENT,
    "lies": CLAIMS_FALSELY,
    "pays late": pays_after(1_800),
    "refuses": refuses("INSUFFICIENT_BALANCE"),
    "is rate limited": refuses("RATE_LIMITED"),
    "refuses and pays": settles_late(40, "INSUFFICIENT_BALANCE"),
    "refuses and pays much later": settles_late(4_000, "QUOTA_EXCEEDED"),
    "pays but reports an error": pays_but_says("INTERNAL"),
    "pays after an error": settles_late(4_000),
}
CARDS = ("pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired")
PLANS = ("basic", "growth", "free")
DELAYS = {
    "no time": timedelta(0),
    "a minute": timedelta(minutes=1),
    "twenty minutes": timedelta(minutes=20),
    "three hours": timedelta(hours=3),
    "a day": timedelta(days=1),
    "four days": timedelta(days=4),
    "eight days": timedelta(days=8),
    "a month": timedelta(days=31),
}
#: Actions, and their relative frequency.
ACTIONS = {
    "add_relay": 2,
    "deactivate_relay": 2,
    "activate_relay": 2,
    "change_plan": 2,
    "update_settings": 1,
    "connect_wallet": 3,
    "disconnect_wallet": 1,
    "change_behaviour": 2,
    "go_offline": 1,
    "bring_wallets_online": 1,
    "attach_card": 3,
    "detach_cards": 1,
    "request_bolt11": 3,
    "request_bolt11_during_a_call": 2,
    "pay_presented_bolt11": 4,
    "pay_on_page": 2,
    "pay_on_page_during_a_call": 2,
    "collect_now": 1,
    "create_credit_note": 1,
    "void_invoice": 1,
    "mark_uncollectible": 1,
    "move_suspend_at": 1,
    "cancel_at_stripe": 1,
    "delete_customer": 1,
}
FAULTS = (
    "worker killed",
    "messages lost",
    "webhooks dropped",
    "webhooks out of order",
    "Stripe fails before the change",
    "Stripe fails after the change",
)

small_numbers = st.integers(0, 3)
delays = st.sampled_from(list(DELAYS))
actions = st.sampled_from(
    [name for name, times in ACTIONS.items() for _ in range(times)]
)
#: What happens at Stripe in a history: few kinds, so that they meet more often.
staff_actions = st.lists(
    st.sampled_from(sorted(STAFF_ACTIONS)), min_size=1, max_size=6, unique=True
)
behaviours = st.sampled_from(sorted(WALLETS))
own_wallets = st.sampled_from(sorted(OWN_WALLETS))
new_tenants = st.tuples(
    st.sampled_from(PLANS[:2]),
    st.none() | behaviours,
    st.sampled_from(["", *CARDS]),
)


class BillingMachine(RuleBasedStateMachine):
    """A few tenants, and everything that can happen to them."""

    servers: ClassVar[Servers]

    @initialize(
        seed=st.integers(0, 1_000),
        likelihood=st.sampled_from([0.0, 0.3]),
        payers=st.lists(new_tenants, min_size=1, max_size=2),
        staff=staff_actions,
    )
    def create_tenants(
        self,
        seed: int,
        likelihood: float,
        payers: list[tuple[str, str | None, str]],
        staff: list[str],
    ) -> None:
        self.staff = staff
        self.system = System(self.servers, seed=seed)
        self.system.__enter__()
        self.system.workers.interleaving = likelihood
        self.system.workers.repeating = likelihood
        self.actions = Actions(self.system)
        for plan, wallet, card in payers:
            behaviour = WALLETS[wallet] if wallet else None
            self.actions.add_tenant(plan=plan, wallet=behaviour, card=card)

    @rule(action=actions, number=small_numbers, variant=small_numbers, delay=delays)
    def perform_action(
        self, action: str, number: int, variant: int, delay: str
    ) -> None:
        """Perform an action on the tenant or object of a number, in some variant."""
        getattr(self, f"do_{action}")(number, variant)
        self._wait(delay)

    @rule(
        kind=st.integers(0, 5),
        number=small_numbers,
        variant=small_numbers,
        delay=delays,
    )
    def act_at_stripe(self, kind: int, number: int, variant: int, delay: str) -> None:
        """Act as staff, a bank or a network on the tenant of a number."""
        action = STAFF_ACTIONS[self.staff[kind % len(self.staff)]]
        # A fault that was for Caravel may hit any of its requests.
        request(action, self.system, self._payer(number), variant)
        self._wait(delay)

    @rule(wallet=behaviours, number=small_numbers, delay=delays)
    def change_wallet_behaviour(self, wallet: str, number: int, delay: str) -> None:
        for payer_wallet in self._payer(number).wallets:
            payer_wallet.behaviour = WALLETS[wallet]
        self._wait(delay)

    @rule(answers=own_wallets, variant=small_numbers, delay=delays)
    def change_own_wallet(self, answers: str, variant: int, delay: str) -> None:
        change_own_wallet(self.system, answers, variant)
        self._wait(delay)

    @rule(variant=small_numbers, delay=delays)
    def meet_contradiction(self, variant: int, delay: str) -> None:
        meet_contradiction(self.actions, variant, DELAYS[delay])

    @rule(delay=delays)
    def decide_as_support(self, delay: str) -> None:
        decide_contradictions(self.system)
        self._wait(delay)

    @rule(fault=st.sampled_from(FAULTS), variant=st.integers(0, 40), delay=delays)
    def provoke_fault(self, fault: str, variant: int, delay: str) -> None:
        self._provoke(fault, variant)
        self._wait(delay)

    @rule(delay=delays)
    def wait(self, delay: str) -> None:
        self._wait(delay)

    @rule()
    def check_after_recovery(self) -> None:
        self._recover()

    # --- actions

    def do_add_relay(self, number: int, variant: int) -> None:
        self.actions.add_relay(self._payer(number), PLANS[variant % 3])

    def do_deactivate_relay(self, number: int, variant: int) -> None:
        for relay in self._relay(number, variant):
            self.actions.deactivate_relay(relay)

    def do_activate_relay(self, number: int, variant: int) -> None:
        for relay in self._relay(number, variant):
            self.actions.activate_relay(relay)

    def do_change_plan(self, number: int, variant: int) -> None:
        for relay in self._relay(number, 0):
            self.actions.change_plan(relay, PLANS[variant % 3])

    def do_update_settings(self, number: int, variant: int) -> None:
        switches = {"dunning_exempt": variant == 1, "autopay_paused": variant == 2}
        self.actions.update_settings(self._payer(number), **switches)

    def do_connect_wallet(self, number: int, variant: int) -> None:
        self.actions.connect_wallet(
            self._payer(number), list(WALLETS.values())[variant]
        )

    def do_disconnect_wallet(self, number: int, variant: int) -> None:
        self.actions.disconnect_wallet(self._payer(number))

    def do_change_behaviour(self, number: int, variant: int) -> None:
        for wallet in self._payer(number).wallets:
            wallet.behaviour = PAYS if variant else STAYS_SILENT

    def do_go_offline(self, number: int, variant: int) -> None:
        for wallet in self._payer(number).wallets[-1:]:
            wallet.go_offline()

    def do_bring_wallets_online(self, number: int, variant: int) -> None:
        self.actions.bring_wallets_online(self._payer(number))

    def do_attach_card(self, number: int, variant: int) -> None:
        self.actions.attach_card(self._payer(number), CARDS[variant % 3])

    def do_detach_cards(self, number: int, variant: int) -> None:
        self.actions.detach_cards(self._payer(number))

    def do_request_bolt11(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self.actions.request_bolt11(invoice)

    def do_request_bolt11_during_a_call(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self._interrupt_with(
                partial(self.actions.request_bolt11, invoice), 3 * variant
            )

    def do_pay_presented_bolt11(self, number: int, variant: int) -> None:
        self.actions.pay_presented_bolt11(newest=variant < 3)

    def do_pay_on_page(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self.actions.pay_on_page(invoice, CARDS[variant % 3])

    def do_pay_on_page_during_a_call(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self._interrupt_with(
                partial(self.actions.pay_on_page, invoice), 3 * variant
            )

    def do_collect_now(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self.actions.collect_now(invoice)

    def do_create_credit_note(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self.actions.create_credit_note(invoice, [1, 100, 250, 500][variant])

    def do_void_invoice(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self.actions.void_invoice(invoice)

    def do_mark_uncollectible(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            self.actions.mark_uncollectible(invoice)

    def do_move_suspend_at(self, number: int, variant: int) -> None:
        for invoice in self._unpaid(number):
            by = timedelta(days=-8 if variant % 2 else 3)
            self.actions.move_suspend_at(invoice, by)

    def do_cancel_at_stripe(self, number: int, variant: int) -> None:
        self.actions.cancel_at_stripe(self._payer(number))

    def do_delete_customer(self, number: int, variant: int) -> None:
        self.actions.delete_customer(self._payer(number))

    def _provoke(self, fault: str, variant: int) -> None:
        system, stripe = self.system, self.system.stripe
        if fault == "worker killed":
            system.workers.kill_after(variant)
        elif fault == "messages lost":
            system.workers.drop_messages()
        elif fault == "webhooks dropped":
            stripe.webhook_fault("drop", times=variant or None)
        elif fault == "webhooks out of order":
            stripe.webhook_fault("duplicate", times=variant % 5 + 1)
            stripe.webhook_fault("reorder", times=variant % 5 + 1)
            stripe.webhook_fault("delay", times=variant % 7 + 1, seconds=900)
        else:
            self._break_stripe("after" if "after" in fault else "before", variant)

    def _break_stripe(self, when: Any, variant: int) -> None:
        """Make the next requests to one path fail in one way."""
        path = ("", "/pay", "/finalize", "/v1/subscriptions", "/v1/credit")[variant % 5]
        kind: Any = ("reset", "status")[variant % 2]
        times = (1, 3, 12)[variant % 3]
        # No 429 after the change: rate limiters run before a request is executed
        # (https://docs.stripe.com/error-low-level#idempotency). Of a `lock_timeout`,
        # which is a 429 too, no source says when it is sent.
        is_rate_limited = when == "before" and variant // 5 % 2
        status = 429 if is_rate_limited else 500
        method = "POST" if path else None
        self.system.stripe.fault(
            kind, method=method, status=status, when=when, path=path, times=times
        )

    @invariant()
    def immediate_invariants_hold(self) -> None:
        assert immediate_faults(self.system) == []

    def teardown(self) -> None:
        """End the system. Without a failure so far it must also end without one."""
        if not hasattr(self, "system"):
            return
        try:
            if sys.exc_info()[0] is None:
                self._recover()
                self.actions.deactivate_all_relays()
                self._recover()
        finally:
            restore_own_wallet(self.system)
            self.system.__exit__()

    # --- helpers

    def _recover(self) -> None:
        # Also for the acts of staff that end what would wait for them.
        self.system.clear_api_faults()
        for payer in self.actions.payers:
            self.actions.bring_wallets_online(payer)
            for wallet in payer.wallets:
                wallet.behaviour = PAYS
                wallet.connection.deny([])
            allow_finalization(self.system, payer, 0)
            while processing(self.system, payer):
                settle_debit(self.system, payer, 0)
        restore_own_wallet(self.system)
        self.system.recover()
        if decide_contradictions(self.system):
            self.system.recover()
        assert final_faults(self.system) == []

    def _wait(self, delay: str) -> None:
        self.system.run()
        if DELAYS[delay]:
            self.system.advance(DELAYS[delay])

    def _interrupt_with(self, action: Callable[[], object], after: int) -> None:
        """Run an action during one of a worker's next external calls."""
        self.system.workers.interrupt_with(action, after=after)

    def _payer(self, number: int) -> Payer:
        payers = self.actions.payers
        return payers[number % len(payers)]

    def _relay(self, payer_number: int, number: int) -> list[UUID]:
        """Return at most one of a tenant's relays."""
        relays = [relay.pk for relay in self._payer(payer_number).relays]
        return [relays[number % len(relays)]] if relays else []

    def _unpaid(self, number: int) -> list[str]:
        """Return at most one of the unpaid invoices."""
        unpaid = InvoiceCollection.objects.unpaid().order_by("created_at", "pk")
        ids = list(unpaid.values_list("pk", flat=True))
        return [ids[number % len(ids)]] if ids else []


#: Time for Hypothesis to shorten a failing history.
MAX_SHRINKING_SECONDS = 90


def run_histories(
    servers: Servers, settings: profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run histories on these servers, with the real pause after a refusal."""
    monkeypatch.setattr(django_settings, "LIGHTNING_REFUSAL_PAUSE", 60)
    monkeypatch.setattr(engine, "MAX_SHRINKING_SECONDS", MAX_SHRINKING_SECONDS)
    machine = type("BillingMachine", (BillingMachine,), {"servers": servers})
    run_state_machine_as_test(machine, settings=settings)


@pytest.mark.search
@pytest.mark.parametrize("part", range(PARTS))
def test_invariants_hold_in_every_history(servers, monkeypatch, part):
    run_histories(servers, RANDOM if search.IS_LARGE else DETERMINISTIC, monkeypatch)
