"""Every event in every state: its one effect, twice, beside others, and killed.

By default a choice of the cells in which any two values meet; EVENT_TABLE=all runs
every cell, which takes a day.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations, cycle, islice

import pytest
import time_machine

from billing.tests.support.event_matrix import observed
from billing.tests.support.event_matrix.arrange import START, Stage, issue, our_wallet
from billing.tests.support.event_matrix.cases import (
    Bill,
    Cell,
    Event,
    Plan,
    barred,
    reachable,
)
from billing.tests.support.event_matrix.expected import expected
from billing.tests.support.event_matrix.fake_worker import Worker
from billing.tests.support.event_matrix.pairwise import covering
from lightning.clients.nwc import Wallet

pytestmark = pytest.mark.django_db

ALL = os.environ.get("EVENT_TABLE") == "all"
#: Whether the invoice is a draft, and what its subscription is.
STAGES = [(True, Plan.CURRENT), *((False, plan) for plan in Plan)]
#: How many of the points at which a worker may die are tried of each cell.
MOST_DEATHS = 1_000 if ALL else 4


def some(strength: int, cells: list[Cell]) -> list[Cell]:
    return cells if ALL else covering(cells, lambda c: c.values, strength=strength)


def pairs() -> list[tuple[Event, Event, Cell]]:
    """Return each two events, in a state that both may meet: by turns, or in all."""
    states = [cell for cell in reachable() if cell.event == Event.CREATED]
    turns, found = cycle(some(2, states)), []
    for first, second in combinations(Event, 2):
        common = (
            replace(cell, event=first)
            for cell in turns
            if not any(barred(replace(cell, event=each)) for each in (first, second))
        )
        met = islice(common, len(states) if ALL else 1)
        found += [(first, second, cell) for cell in met]
    return found


CELLS = some(2, reachable())
KILLED = some(2 if ALL else 1, reachable())
PAIRS = pairs()


def is_on(stage: tuple[bool, Plan], cell: Cell) -> bool:
    return (cell.bill == Bill.DRAFT, cell.plan) == stage


def chosen(points: int) -> range:
    """Return the points, counted from 1, at which a worker dies: not too many."""
    return range(1, points + 1, -(-points // MOST_DEATHS) or 1)


@pytest.fixture
def worker(sandbox, rates, settings, monkeypatch) -> Iterator[Worker]:
    settings.ROBOT_WALLETS = [our_wallet()]
    monkeypatch.setattr(Wallet, "make_invoice", issue)
    worker = Worker()
    with worker.hired():
        yield worker


@pytest.fixture(params=STAGES, ids=lambda one: f"{one[1].name}{' draft' * one[0]}")
def key(request):
    return request.param


@pytest.fixture
def stage(key, worker, sandbox) -> Iterator[Stage]:
    is_draft, plan = key
    with time_machine.travel(START, tick=False) as traveller:
        yield Stage(sandbox, traveller, worker, is_draft=is_draft, plan=plan)


def test_each_event_has_its_one_effect_and_that_once(key, stage):
    wrong = []
    for cell in filter(partial(is_on, key), CELLS):
        with stage.set_for(cell):
            told = stage.tell(cell.event)
            stage.work()
            first = observed.read(stage)
            stage.tell_again(told)
            stage.tell(cell.event)
            stage.work()
            again = observed.read(stage)
            unprocessed = stage.unprocessed()
        wrong += [f"{cell}: {each}" for each in first.differences(expected(cell))]
        wrong += [f"{cell}, twice: {each}" for each in again.differences(first)]
        wrong += [f"{cell}: {each}" for each in unprocessed]

    assert not wrong, "\n".join(wrong)


def end(
    stage: Stage, cell: Cell, events: list[Event], *, later: bool = False
) -> observed.Facts:
    """Tell several events before anything follows from them; return what it leads to.

    When all messages are worked off, or `later`, when the beat has been round.
    """
    with stage.set_for(cell, *events):
        for event in events:
            stage.tell(event)
        stage.work()
        if later:
            stage.wait()
        return observed.read(stage)


def disagreements(stage: Stage, cell: Cell, first: Event, second: Event) -> list[str]:
    """Return what depends on the order of two events; what the beat mends does not."""
    told = [[first, second], [second, first]]
    one, other = (end(stage, cell, events) for events in told)
    if one == other:
        return []
    one, other = (end(stage, cell, events, later=True) for events in told)
    if one.waits and other.waits:
        # Whoever is told before a credit waits is told of the whole; who is not, later.
        one, other = (replace(each, notices=()) for each in (one, other))
    if Event.CUSTOMER_DELETED in {first, second}:
        # Who comes first decides whether there is another customer to be credited.
        one, other = (replace(each, credits=each.sums) for each in (one, other))
    return other.differences(one)


def test_two_events_have_one_end_in_either_order(key, stage):
    wrong = []
    for first, second, cell in PAIRS:
        if is_on(key, cell):
            found = disagreements(stage, cell, first, second)
            wrong += [f"{second} first, {cell}: {each}" for each in found]

    assert not wrong, "\n".join(wrong)


def test_a_worker_that_dies_anywhere_changes_nothing_in_the_end(key, stage):
    wrong = []
    for cell in filter(partial(is_on, key), KILLED):
        with stage.set_for(cell):
            stage.tell(cell.event)
            stage.work()
            points = stage.worker.points
            stage.wait()
            end = observed.read(stage)
        for point in chosen(points):
            with stage.set_for(cell):
                stage.tell(cell.event)
                assert stage.work_and_die(point)
                stage.wait()
                killed = observed.read(stage)
            wrong += [
                f"{cell}, dead at {point} of {points}: {each}"
                for each in killed.differences(end)
            ]

    assert not wrong, "\n".join(wrong)
