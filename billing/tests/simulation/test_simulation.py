"""The proving ground itself: time passes, webhooks come, workers die."""

from datetime import timedelta

import pytest

from billing.models import InvoiceCollection, Settlement, StripeEvent, StripeWrite
from billing.tests.support.simulation.actions import People
from billing.tests.support.simulation.balances import (
    captured_by_card,
    captured_by_lightning,
    our_invoices,
)
from billing.tests.support.simulation.invariants import faults_in_the_end
from billing.tests.support.simulation.system import World
from lightning.models import LightningInvoice, NwcPayment
from sandbox.wallets.behaviour import PAYS, STAYS_SILENT, refuses, settles_late

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

DAY = timedelta(days=1)


@pytest.fixture
def world(worlds):
    with World(worlds) as world:
        yield world


@pytest.fixture
def people(world) -> People:
    return People(world)


def paid_by() -> list[str]:
    rows = InvoiceCollection.objects.order_by("created_at")
    return list(rows.values_list("paid_by", flat=True))


def test_a_wallet_pays_month_after_month(world, people):
    people.move_in(wallet=PAYS)
    world.run()

    world.advance(40 * DAY)
    world.settle()

    assert paid_by() == ["wallet", "wallet"]
    assert captured_by_lightning(world, our_invoices(world)[0]["id"]) == 500
    assert faults_in_the_end(world) == []


def test_a_card_pays(world, people):
    people.move_in(card="pm_card_visa")

    world.settle()

    assert paid_by() == ["card"]
    assert captured_by_card(world, our_invoices(world)[0]["id"]) == 500
    assert faults_in_the_end(world) == []


def test_a_silent_wallet_gives_way_to_the_card_when_it_cannot_pay_any_more(
    world, people
):
    people.move_in(wallet=STAYS_SILENT, card="pm_card_visa")
    world.run()
    assert NwcPayment.objects.get().state == "pending"

    world.advance(timedelta(hours=2))
    assert paid_by() == [""]
    world.advance(timedelta(hours=1))

    assert paid_by() == ["card"]
    assert faults_in_the_end(world) == []


def test_what_a_wallet_pays_after_its_error_is_counted(world, people):
    people.move_in(wallet=settles_late(600), card="pm_card_visa")

    world.settle()

    assert paid_by() == ["wallet"]
    assert faults_in_the_end(world) == []


def test_a_person_pays_late(world, people):
    payer = people.move_in()
    world.run()
    people.ask_for_bolt11(payer.unpaid[0].pk)
    world.advance(timedelta(hours=1))
    assert LightningInvoice.objects.get().state == "expired"

    assert people.pay_shown()
    world.settle()

    assert paid_by() == ["lightning"]
    assert faults_in_the_end(world) == []


def test_paid_twice_by_a_person_the_second_is_credit(world, people):
    payer = people.move_in()
    world.run()
    people.ask_for_bolt11(payer.unpaid[0].pk)
    people.pay_on_page(payer.unpaid[0].pk)

    assert people.pay_shown()
    world.settle()

    assert Settlement.objects.get().surplus_cents == 500
    assert faults_in_the_end(world) == []


def test_lost_webhooks_are_not_missed(world, people):
    world.stripe.webhook_fault("drop", times=None)

    people.move_in(card="pm_card_visa")
    world.run()
    world.advance(2 * DAY)

    assert not StripeEvent.objects.exclude(type__regex="^(price|product)").exists()
    assert paid_by() == ["card"]


@pytest.mark.parametrize("points", range(0, 60, 5))
def test_a_worker_that_is_killed_anywhere_leaves_nothing_undone(world, people, points):
    world.workers.kill_after(points)

    people.move_in(card="pm_card_visa")
    world.settle()

    assert world.workers.deaths == 1
    assert not StripeWrite.objects.pending().exists()
    assert paid_by() == ["card"]
    assert faults_in_the_end(world) == []


@pytest.mark.parametrize("deed", ["ask and pay", "pay on page", "void"])
@pytest.mark.parametrize(
    "wallet", [PAYS, refuses("INSUFFICIENT_BALANCE")], ids=["pays", "refuses"]
)
@pytest.mark.parametrize("call", [2, 7, 12, 17])
def test_whatever_a_person_does_amid_a_collection_the_sums_are_right(
    world, people, deed, wallet, call
):
    payer = people.move_in()
    world.run()
    invoice = payer.unpaid[0].pk
    people.connect(payer, wallet)
    people.attach(payer, "pm_card_visa")
    world.workers.meanwhile(lambda: act(people, deed, invoice), after=call)

    world.run()
    world.settle()

    assert faults_in_the_end(world) == []


def act(people: People, deed: str, invoice: str) -> None:
    if deed == "pay on page":
        people.pay_on_page(invoice)
    elif deed == "void":
        people.void(invoice)
    elif people.ask_for_bolt11(invoice):
        people.pay_shown()
