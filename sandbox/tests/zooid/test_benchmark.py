"""Limits of the benchmark of provisioning."""

import pytest

from benchmarks import provisioning
from benchmarks.support.relays_at_zooid import Measurement


@pytest.mark.parametrize(
    ("number", "seconds", "faults", "passed"),
    [
        (1_000, 59.0, "", True),
        (1_000, 61.0, "", False),
        (200, 11.0, "", True),
        (200, 13.0, "", False),
        (1_000, 10.0, "3 relays were written again", False),
    ],
)
def test_limit_is_on_rate_and_on_faults(number, seconds, faults, passed, capsys):
    measured = Measurement("provisioned", number, seconds, 2.0, faults)

    assert provisioning._report(measured, 1_000) is passed

    assert faults in capsys.readouterr().out
