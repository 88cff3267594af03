"""Every Stripe event in every state: once, twice, before another, and with a crash.

By default a sample with every pair of values, and a part of the crashes and orders that
`make search` tries. EVENT_TABLE=all runs every case, which takes a day.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, cycle, islice

import pytest
import time_machine

from billing.tests.support.event_matrix import observed
from billing.tests.support.event_matrix.arrange import START, CaseSetup
from billing.tests.support.event_matrix.cases import (
    Case,
    Event,
    InvoiceState,
    SubscriptionState,
    can_occur_in_any_order,
    possible_cases,
    why_impossible,
)
from billing.tests.support.event_matrix.expected import expected_outcome
from billing.tests.support.event_matrix.pairwise import covering_array
from caravel.tests.support import search

pytestmark = pytest.mark.django_db

ALL = os.environ.get("EVENT_TABLE") == "all"
#: Whether the invoice is a draft, and the state of its subscription.
SETUPS = [
    (True, SubscriptionState.CURRENT),
    *((False, subscription) for subscription in SubscriptionState),
]
#: Maximum number of kill points tried per case.
MAX_KILLS = 1_000 if ALL else 4 if search.IS_LARGE else 2


def sample(strength: int, cases: list[Case]) -> list[Case]:
    if ALL:
        return cases
    usual = [case for case in cases if not case.event.is_from_outside]
    outside = [case for case in cases if case.event.is_from_outside]
    return [
        *covering_array(usual, lambda case: case.values, strength=strength),
        # Twice as many kinds of events, and most have an effect in few states.
        *covering_array(
            outside,
            lambda case: case.values,
            strength=strength if search.IS_LARGE else 1,
        ),
    ]


# Computed where they are used: each worker of pytest-xdist imports this module.
@cache
def event_cases() -> list[Case]:
    return sample(2, possible_cases())


@cache
def kill_cases() -> list[Case]:
    return sample(2 if ALL else 1, possible_cases())


@cache
def event_pairs() -> list[tuple[Event, Event, Case]]:
    """Return pairs of events, each with one state (or all) that both can occur in."""
    states = [case for case in possible_cases() if case.event == Event.CREATED]
    states_in_turn, pairs = cycle(sample(2, states)), []
    allowed = [pair for pair in combinations(Event, 2) if can_occur_in_any_order(*pair)]
    for first, second in search.sample(allowed, every=9):
        common = (
            replace(case, event=first)
            # Once around: no state may be possible for both.
            for case in islice(states_in_turn, len(states))
            if not any(
                why_impossible(replace(case, event=each)) for each in (first, second)
            )
        )
        chosen = islice(common, len(states) if ALL else 1)
        pairs += [(first, second, case) for case in chosen]
    return pairs


def is_for(setup_key: tuple[bool, SubscriptionState], case: Case) -> bool:
    return (case.invoice == InvoiceState.DRAFT, case.subscription) == setup_key


def chosen_points(kill_points: int) -> range:
    """Return at most MAX_KILLS kill points, counted from 1, evenly spread."""
    return range(1, kill_points + 1, -(-kill_points // MAX_KILLS) or 1)


@pytest.fixture(params=SETUPS, ids=lambda key: f"{key[1].name}{' draft' * key[0]}")
def setup_key(request):
    return request.param


@pytest.fixture
def case_setup(setup_key, worker, sandbox, saved_setups) -> Iterator[CaseSetup]:
    is_draft, subscription = setup_key
    with time_machine.travel(START, tick=False) as traveller:
        yield CaseSetup(
            sandbox,
            traveller,
            worker,
            saved_setups,
            is_draft=is_draft,
            subscription=subscription,
        )


def test_event_has_the_expected_outcome_and_no_second_effect(setup_key, case_setup):
    mismatches = []
    for case in filter(partial(is_for, setup_key), event_cases()):
        with case_setup.arrange(case):
            event = case_setup.deliver(case.event)
            case_setup.work()
            first = observed.read_outcome(case_setup)
            case_setup.redeliver(event)
            case_setup.deliver(case.event)
            case_setup.work()
            again = observed.read_outcome(case_setup)
            unprocessed_events = case_setup.unprocessed_events()
        mismatches += [
            f"{case}: {each}" for each in first.differences(expected_outcome(case))
        ]
        mismatches += [f"{case}, twice: {each}" for each in again.differences(first)]
        mismatches += [f"{case}: {each}" for each in unprocessed_events]

    assert not mismatches, "\n".join(mismatches)


def outcome_after(
    case_setup: CaseSetup, case: Case, events: list[Event], *, later: bool = False
) -> observed.Outcome:
    """Deliver several events before any task runs; return the outcome.

    It is read when all tasks have run or, if `later`, after the periodic tasks.
    """
    with case_setup.arrange(case, *events):
        for event in events:
            case_setup.deliver(event)
        case_setup.work()
        if later:
            case_setup.run_sweeps()
        return observed.read_outcome(case_setup)


def order_differences(
    case_setup: CaseSetup, case: Case, first: Event, second: Event
) -> list[str]:
    """Return differences by the order of two events that remain after the sweeps."""
    orders = [[first, second], [second, first]]
    outcomes = [outcome_after(case_setup, case, events) for events in orders]
    if outcomes[0] == outcomes[1]:
        return []
    outcomes = [
        outcome_after(case_setup, case, events, later=True) for events in orders
    ]
    if all(outcome.has_pending_credit for outcome in outcomes):
        # A notice is sent only if its event came before the credit was pending.
        outcomes = [replace(outcome, notices=()) for outcome in outcomes]
    if Event.CUSTOMER_DELETED in {first, second}:
        # The order decides whether a new customer exists when the credit is posted.
        outcomes = [
            replace(outcome, credits=outcome.credit_amounts) for outcome in outcomes
        ]
    return outcomes[1].differences(outcomes[0])


@pytest.mark.search
def test_order_of_two_events_does_not_change_the_outcome(setup_key, case_setup):
    mismatches = []
    for first, second, case in event_pairs():
        if is_for(setup_key, case):
            differences = order_differences(case_setup, case, first, second)
            mismatches += [f"{second} first, {case}: {each}" for each in differences]

    assert not mismatches, "\n".join(mismatches)


@pytest.mark.search
def test_killed_worker_does_not_change_the_outcome(setup_key, case_setup):
    mismatches = []
    for case in filter(partial(is_for, setup_key), kill_cases()):
        with case_setup.arrange(case):
            case_setup.deliver(case.event)
            case_setup.work()
            kill_points = case_setup.worker.kill_points
            case_setup.run_sweeps()
            undisturbed = observed.read_outcome(case_setup)
        for point in chosen_points(kill_points):
            with case_setup.arrange(case):
                case_setup.deliver(case.event)
                assert case_setup.work_until_killed(point)
                case_setup.run_sweeps()
                killed = observed.read_outcome(case_setup)
            mismatches += [
                f"{case}, killed at {point} of {kill_points}: {each}"
                for each in killed.differences(undisturbed)
            ]

    assert not mismatches, "\n".join(mismatches)
