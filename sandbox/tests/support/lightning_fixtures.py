"""Fixtures: a sandbox Lightning for one test, and its control API."""

from collections.abc import Iterator

import pytest

from sandbox.lightning import Lightning, running_lightning
from sandbox.lightning.client import Control


@pytest.fixture
def lightning() -> Iterator[Lightning]:
    with running_lightning(seed="seed") as lightning:
        yield lightning


@pytest.fixture
def control(lightning: Lightning) -> Control:
    return Control(lightning.url)
