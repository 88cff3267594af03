"""Tenants give what they were served for, to the cent."""

from datetime import timedelta

import pytest

from billing.tests.books import faults_in_the_end
from billing.tests.deeds import People
from billing.tests.served import account_of, faults_of_accounts
from billing.tests.world import World
from sandbox.wallets.behaviour import PAYS

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

DAY = timedelta(days=1)


@pytest.fixture
def world(worlds):
    with World(worlds) as world:
        yield world


@pytest.fixture
def people(world) -> People:
    return People(world)


def test_suspended_in_the_middle_of_a_month_and_back_for_three(world, people):
    payer = people.move_in(wallet=PAYS)
    world.advance(40 * DAY)
    print(account_of(world, payer.tenant))
    print(faults_of_accounts(world))
    people.move_out()
    world.settle()
    print(account_of(world, payer.tenant))
    assert faults_in_the_end(world) == []
    assert faults_of_accounts(world) == []
    assert 0
