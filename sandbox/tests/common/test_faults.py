"""The fault engine that all stand-ins share."""

import inspect
import threading

import pytest

from sandbox.common.faults import Fault, Faults
from sandbox.common.fields import BadField
from sandbox.nostr import SandboxRelay
from sandbox.nostr.faults import RelayFault
from sandbox.prices.feed import PriceFault, PriceFeed
from sandbox.stripe.api.faults import ApiFault
from sandbox.stripe.client.testing import Sandbox
from sandbox.stripe.webhooks.faults import WebhookFault
from sandbox.zooid import Zooid
from sandbox.zooid.faults import ZooidFault


class Drop(Fault):
    KINDS = ("drop", "delay")


def drops(seed: int | None = None) -> Faults[Drop]:
    return Faults(seed)


def anything(fault):
    return True


def test_fault_is_used_up_after_its_times_and_keeps_its_hits():
    faults = drops()
    first, second = faults.add(Drop("drop", times=2)), faults.add(Drop("delay"))

    taken = [faults.take(anything) for _ in range(4)]

    assert taken == [first, first, second, second]
    assert faults.active() == [second]
    assert faults.hits(first.id) == 2
    assert [fault["hits"] for fault in faults.list()] == [2]


def test_fault_that_does_not_match_is_not_used():
    faults = drops()
    fault = faults.add(Drop("drop"))

    assert faults.take(lambda fault: fault.kind == "delay") is None
    assert fault.hits == 0


def test_clearing_releases_waiting_requests_also_of_used_up_faults():
    faults = drops()
    faults.add(Drop("delay", seconds=60, times=1))
    fault = faults.take(anything)
    assert fault is not None
    released = []
    waiting = threading.Thread(target=lambda: released.append(fault.wait()))
    waiting.start()

    faults.clear()
    waiting.join(10)

    assert released == [True]
    assert faults.add(Drop("delay", seconds=0)).wait() is False


def test_faults_after_clearing_have_the_same_ids_and_chances():
    faults, runs = drops(seed=1), []
    for _ in range(2):
        fault = faults.add(Drop("drop", chance=0.5))
        runs.append((fault.id, [bool(faults.take(anything)) for _ in range(30)]))
        faults.clear()

    assert runs[0] == runs[1]
    assert {True, False} == set(runs[0][1])
    with pytest.raises(KeyError):
        faults.hits("fault_1")


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "explode"},
        {"kind": "drop", "times": 0},
        {"kind": "drop", "times": True},
        {"kind": "drop", "chance": 0},
        {"kind": "drop", "chance": 1.1},
        {"kind": "drop", "seconds": -1},
        {"kind": "drop", "seconds": float("nan")},
    ],
)
def test_invalid_fault_is_not_added(values):
    faults = drops()

    with pytest.raises(BadField):
        faults.add(Drop(**values))
    assert faults.active() == []


@pytest.mark.parametrize(
    ("add", "fault", "different"),
    [
        # Most tests want a write to fail.
        (Sandbox.fault, ApiFault, {"method"}),
        (Sandbox.webhook_fault, WebhookFault, set()),
        (SandboxRelay.fault, RelayFault, set()),
        (Zooid.fault, ZooidFault, set()),
        (PriceFeed.fault, PriceFault, {"source", "sources"}),
    ],
)
def test_function_that_adds_a_fault_has_its_options_and_defaults(add, fault, different):
    options = inspect.signature(add).parameters.values()
    given = {option.name: option.default or None for option in options}
    plain = fault(fault.KINDS[0])
    expected = {name: getattr(plain, name) or None for name in fault.names()}

    same = expected.keys() - {"kind", *different}
    assert given.keys() - {"self", "kind", *different} == same
    assert {name: given[name] for name in same} == {
        name: expected[name] for name in same
    }
