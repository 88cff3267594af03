"""Every event in every state: its one effect, twice, beside others, and killed.

By default a choice of the cells in which any two values meet; EVENT_TABLE=all runs
every cell, which takes hours.
"""

import os
from collections.abc import Iterator
from itertools import combinations

import pytest
import time_machine

from billing.tests.table import facts
from billing.tests.table.cells import Bill, Cell, Event, Plan, reachable
from billing.tests.table.covering import covering
from billing.tests.table.oracle import expected
from billing.tests.table.stage import START, Stage, issue, our_wallet
from billing.tests.table.worker import Worker
from lightning.clients.nwc import Wallet

pytestmark = pytest.mark.django_db

ALL = os.environ.get("EVENT_TABLE") == "all"
#: Whether the invoice is a draft, and what its subscription is.
STAGES = [(True, Plan.CURRENT), *((False, plan) for plan in Plan)]
#: How many of the points at which a worker may die are tried of each cell.
MOST_DEATHS = 1_000 if ALL else 6

CELLS = reachable() if ALL else covering(reachable(), lambda c: c.values, strength=2)


def on(stage: tuple[bool, Plan], cells: list[Cell]) -> list[Cell]:
    is_draft, plan = stage
    return [c for c in cells if (c.bill == Bill.DRAFT, c.plan) == (is_draft, plan)]


@pytest.fixture
def worker(sandbox, rates, settings, monkeypatch) -> Iterator[Worker]:
    settings.ROBOT_WALLETS = [our_wallet()]
    monkeypatch.setattr(Wallet, "make_invoice", issue)
    worker = Worker()
    with worker.hired():
        yield worker


@pytest.fixture(params=STAGES, ids=lambda one: f"{one[1].name}{' draft' * one[0]}")
def key(request) -> tuple[bool, Plan]:
    return request.param


@pytest.fixture
def stage(key, worker, sandbox) -> Iterator[Stage]:
    is_draft, plan = key
    with time_machine.travel(START, tick=False) as traveller:
        yield Stage(sandbox, traveller, worker, is_draft=is_draft, plan=plan)


def test_each_event_has_its_one_effect_and_that_once(key, stage):
    wrong = []
    for cell in on(key, CELLS):
        with stage.set_for(cell):
            told = stage.tell(cell.event)
            stage.work()
            first = facts.read(stage)
            stage.tell_again(told)
            stage.tell(cell.event)
            stage.work()
            again = facts.read(stage)
            unprocessed = stage.unprocessed()
        wrong += [f"{cell}: {each}" for each in first.differences(expected(cell))]
        wrong += [f"{cell}, twice: {each}" for each in again.differences(first)]
        wrong += [f"{cell}: {each}" for each in unprocessed]

    assert wrong == []
