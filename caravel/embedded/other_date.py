"""Pytest plugin that runs tests as if today were another date, since months differ.

    make test TEST_DATE=2027-01-31

Tests that start processes are left out: those would have the real date.
"""

import os
from datetime import UTC, datetime

import pytest
import time_machine


def pytest_configure() -> None:
    """Travel to noon of the date, before anything is imported by a test."""
    noon = datetime.fromisoformat(os.environ["TEST_DATE"]).replace(hour=12, tzinfo=UTC)
    time_machine.travel(noon).start()


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out the tests that start processes."""
    started = [item for item in items if item.get_closest_marker("processes")]
    config.hook.pytest_deselected(items=started)
    items[:] = [item for item in items if item not in started]
