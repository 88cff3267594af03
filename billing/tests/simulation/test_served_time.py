"""Tenants give what they were served for, to the cent."""

from datetime import timedelta

import pytest

from billing.tests.support.simulation.actions import Payer, People
from billing.tests.support.simulation.invariants import faults_in_the_end
from billing.tests.support.simulation.served_time import Account, account_of
from billing.tests.support.simulation.system import World
from sandbox.stripe.context import Context
from sandbox.stripe.objects import collection, subscription_end

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def world(worlds):
    with World(worlds) as world:
        yield world


@pytest.fixture
def people(world) -> People:
    return People(world)


def balanced(world: World, payer: Payer) -> Account:
    """Return a tenant's account once all is quiet; its sums are right."""
    world.settle()
    assert faults_in_the_end(world) == []
    return account_of(world, payer.tenant)


def suspend(world: World) -> None:
    """Let seven days of grace pass and no more."""
    world.run()
    world.advance(7 * DAY)
    world.advance(timedelta(minutes=5))


def subscriptions(world: World) -> list[str]:
    found = world.stripe.app.store.scan("subscription")
    return [one["status"] for one in found]


def statuses(payer: Payer) -> list[str]:
    return [relay.status for relay in payer.relays]


# A basic relay is 500 cents a month, and this January has 31 days.


def test_suspended_in_the_middle_of_a_month_and_back_for_three(world, people):
    payer = people.move_in()
    suspend(world)
    assert statuses(payer) == ["delinquent"]
    served = balanced(world, payer)
    assert (served.owed, served.captured) == (round(500 * 7 / 31), 0)

    world.advance(3 * DAY)
    people.attach(payer, "pm_card_visa")
    world.run()
    assert statuses(payer) == ["active"]
    world.advance(90 * DAY)
    people.move_out()
    account = balanced(world, payer)

    assert account.captured == round(500 * 7 / 31) + 3 * 500
    assert (account.owed, account.credit) == (0, 0)
    assert round(account.served) == account.captured


def nothing(context: Context, subscription: str) -> None:
    """Leave it as it is."""


def cancel_for_non_payment(context: Context, subscription: str) -> None:
    subscription_end.cancel(context, subscription, reason="payment_failed")


def cancel_by_itself(context: Context, subscription: str) -> None:
    subscription_end.cancel(context, subscription, reason="")


def cancel_for_a_person(context: Context, subscription: str) -> None:
    subscription_end.cancel(context, subscription)


def give_up(context: Context, subscription: str) -> None:
    collection.set_status(context, subscription, "unpaid")


@pytest.mark.parametrize(
    ("deed", "days"),
    [
        (nothing, 7),
        (cancel_for_non_payment, 4),
        (cancel_for_a_person, 4),
        (cancel_by_itself, 4),
        (give_up, 4),
    ],
)
def test_who_never_pays_gets_no_second_subscription(world, people, deed, days):
    payer = people.move_in()
    world.run()
    world.advance(4 * DAY)
    subscription = payer.tenant.stripe_subscription_id
    world.stripe.app.transact(lambda context: deed(context, subscription))

    world.run()
    world.advance(3 * DAY)
    world.advance(timedelta(minutes=5))
    for relay in payer.relays:
        people.switch_on(relay.pk)
    people.add_relay(payer, "growth")
    world.advance(35 * DAY)
    account = balanced(world, payer)

    assert subscriptions(world) == ["canceled"]
    assert statuses(payer) in (["delinquent"], ["inactive"])
    assert (account.captured, account.credit) == (0, 0)
    assert account.owed == round(500 * days / 31) == round(account.served)


@pytest.mark.parametrize("days", [1, 5])
def test_off_and_on_again_the_same_day_when_it_is_paid(world, people, days):
    payer = people.move_in(card="pm_card_visa")
    off_and_on(world, people, payer, days)

    world.advance(10 * DAY)
    people.move_out()
    account = balanced(world, payer)

    served = days + 10
    assert account.owed == 0
    assert account.captured - account.credit == round(500 * served / 31)
    assert round(account.served) == round(500 * served / 31)


def test_off_and_on_again_the_same_day_when_it_is_not_paid(world, people):
    payer = people.move_in()
    off_and_on(world, people, payer, days=5)
    assert (statuses(payer), subscriptions(world)) == (["inactive"], ["canceled"])

    people.attach(payer, "pm_card_visa")
    world.run()
    people.switch_on(payer.relays[0].pk)
    world.run()
    world.advance(10 * DAY)
    people.move_out()
    account = balanced(world, payer)

    assert account.captured - account.credit == round(500 * 15 / 31)
    assert round(account.served) == round(500 * 15 / 31)


def test_too_little_to_be_charged_keeps_nobody_off(world, people):
    payer = people.move_in()
    off_and_on(world, people, payer, days=1)
    account = balanced(world, payer)

    assert (statuses(payer), account.owed) == (["active"], round(500 / 31) + 500)


@pytest.mark.parametrize("calls", range(0, 22, 7))
def test_on_again_during_the_cancellation_no_relay_is_free(world, people, calls):
    payer = people.move_in()
    world.run()
    world.advance(5 * DAY)
    relay = payer.relays[0].pk
    people.switch_off(relay)
    world.workers.meanwhile(lambda: people.switch_on(relay), after=calls)
    world.run()
    world.advance(DAY)

    balanced(world, payer)


def test_a_write_off_takes_no_note_for_what_was_not_served(world, people):
    payer = people.move_in()
    world.run()
    world.advance(5 * DAY)
    people.write_off(payer.unpaid[0].pk)
    world.run()
    people.move_out()
    account = balanced(world, payer)

    assert account.written_off == 500
    assert round(account.written_off - account.never_served) == round(account.served)


def off_and_on(world: World, people: People, payer: Payer, days: int) -> None:
    """Switch the one relay off after some days, and on again two hours later."""
    world.run()
    world.advance(days * DAY)
    people.switch_off(payer.relays[0].pk)
    world.run()
    world.advance(2 * HOUR)
    people.switch_on(payer.relays[0].pk)
    world.run()
