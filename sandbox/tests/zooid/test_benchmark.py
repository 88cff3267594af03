"""Limits of the benchmark of provisioning."""

import pytest

from benchmarks import provisioning
from benchmarks.support.relays_at_zooid import Measurement
from benchmarks.support.results import Results


@pytest.mark.parametrize(
    ("number", "seconds", "faults", "missed"),
    [
        (1_000, 59.0, 0, None),
        (1_000, 61.0, 0, "relays_seconds"),
        (200, 11.0, 0, None),
        (200, 13.0, 0, "relays_seconds"),
        (1_000, 10.0, 3, "relays_faults"),
    ],
)
def test_limit_is_on_rate_and_on_faults(number, seconds, faults, missed):
    results = Results("provisioning", quick=True)
    measured = Measurement("provisioned", number, seconds, 2.0, faults)

    provisioning._report(results, "relays", measured, 1_000)

    assert results.missed == ([missed] if missed else [])
