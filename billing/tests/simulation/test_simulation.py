"""Scenarios in the simulated system, with lost webhooks and killed workers."""

from datetime import timedelta
from itertools import product

import pytest

from billing.models import InvoiceCollection, Settlement, StripeEvent, StripeWrite
from billing.tests.support.simulation.actions import Actions
from billing.tests.support.simulation.balances import (
    captured_by_card,
    captured_by_lightning,
    tenant_invoices,
)
from billing.tests.support.simulation.invariants import final_faults
from billing.tests.support.simulation.staff.holds import hold_draft
from billing.tests.support.simulation.system import System
from caravel.tests.support import search
from lightning.models import LightningInvoice, NwcPayment
from sandbox.wallets.behaviour import PAYS, STAYS_SILENT, refuses, settles_late

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

DAY = timedelta(days=1)
WALLETS = {"pays": PAYS, "refuses": refuses("INSUFFICIENT_BALANCE")}


@pytest.fixture
def system(servers):
    with System(servers) as system:
        yield system


@pytest.fixture
def actions(system) -> Actions:
    return Actions(system)


def paid_by() -> list[str]:
    rows = InvoiceCollection.objects.order_by("created_at")
    return list(rows.values_list("paid_by", flat=True))


def test_wallet_pays_every_month(system, actions):
    actions.add_tenant(wallet=PAYS)
    system.run()

    system.advance(40 * DAY)
    system.recover()

    assert paid_by() == ["wallet", "wallet"]
    assert captured_by_lightning(system, tenant_invoices(system)[0]["id"]) == 500
    assert final_faults(system) == []


def test_card_pays_the_first_invoice(system, actions):
    actions.add_tenant(card="pm_card_visa")

    system.recover()

    assert paid_by() == ["card"]
    assert captured_by_card(system, tenant_invoices(system)[0]["id"]) == 500
    assert final_faults(system) == []


def test_card_is_charged_after_a_silent_wallet_can_no_longer_pay(system, actions):
    actions.add_tenant(wallet=STAYS_SILENT, card="pm_card_visa")
    system.run()
    assert NwcPayment.objects.get().state == "pending"

    system.advance(timedelta(hours=2))
    assert paid_by() == [""]
    system.advance(timedelta(hours=1))

    assert paid_by() == ["card"]
    assert final_faults(system) == []


def test_wallet_payment_after_an_error_reply_is_booked(system, actions):
    actions.add_tenant(wallet=settles_late(600), card="pm_card_visa")

    system.recover()

    assert paid_by() == ["wallet"]
    assert final_faults(system) == []


def test_expired_bolt11_paid_late_settles_the_invoice(system, actions):
    payer = actions.add_tenant()
    system.run()
    actions.request_bolt11(payer.unpaid[0].pk)
    system.advance(timedelta(hours=1))
    assert LightningInvoice.objects.get().state == "expired"

    assert actions.pay_presented_bolt11()
    system.recover()

    assert paid_by() == ["lightning"]
    assert final_faults(system) == []


def test_second_payment_of_an_invoice_becomes_credit(system, actions):
    payer = actions.add_tenant()
    system.run()
    actions.request_bolt11(payer.unpaid[0].pk)
    actions.pay_on_page(payer.unpaid[0].pk)

    assert actions.pay_presented_bolt11()
    system.recover()

    assert Settlement.objects.get().surplus_cents == 500
    assert final_faults(system) == []


def test_held_draft_is_recorded_less_the_credit_that_will_pay_it(system, actions):
    payer = actions.add_tenant(card="pm_card_visa")
    system.run()
    hold_draft(system, payer, 0)
    system.advance(45 * DAY)

    actions.deactivate_all_relays()
    system.recover()
    assert final_faults(system) == []
    system.advance(DAY)

    draft = InvoiceCollection.objects.get(stripe_status="draft")
    assert 0 < draft.amount_remaining_cents < 500
    assert final_faults(system) == []


def test_invoice_is_paid_without_any_event(system, actions):
    system.stripe.webhook_fault("drop", times=None)
    system.stripe.fault("status", method="GET", path="^/v1/events", times=None)

    actions.add_tenant(card="pm_card_visa")
    system.run()
    system.advance(2 * DAY)

    assert not StripeEvent.objects.exclude(type__regex="^(price|product)").exists()
    assert paid_by() == ["card"]


@pytest.mark.search
@pytest.mark.parametrize("points", search.sample(range(0, 60, 5), every=2))
def test_killed_worker_leaves_no_unfinished_work(system, actions, points):
    system.workers.kill_after(points)

    actions.add_tenant(card="pm_card_visa")
    system.recover()

    assert system.workers.kills == 1
    assert not StripeWrite.objects.pending().exists()
    assert paid_by() == ["card"]
    assert final_faults(system) == []


@pytest.mark.search
@pytest.mark.parametrize(
    ("wallet", "action", "call"),
    search.sample(
        [*product(WALLETS, ["pay bolt11", "pay on page", "void"], [2, 7, 12, 17])],
        every=3,
    ),
)
def test_payer_action_during_a_collection_keeps_amounts_right(
    system, actions, wallet, action, call
):
    payer = actions.add_tenant()
    system.run()
    invoice = payer.unpaid[0].pk
    actions.connect_wallet(payer, WALLETS[wallet])
    actions.attach_card(payer, "pm_card_visa")
    system.workers.interrupt_with(lambda: perform(actions, action, invoice), after=call)

    system.run()
    system.recover()

    assert final_faults(system) == []


def perform(actions: Actions, action: str, invoice: str) -> None:
    if action == "pay on page":
        actions.pay_on_page(invoice)
    elif action == "void":
        actions.void_invoice(invoice)
    elif actions.request_bolt11(invoice):
        actions.pay_presented_bolt11()
