"""Size of the searches: `make search` sets SEARCH to make them larger."""

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")
#: Multiplies the number of examples.
FACTOR = int(os.environ.get("SEARCH", "1"))
#: Whether to search at random where a usual run has the same examples each time.
IS_LARGE = FACTOR > 1
#: Marks of a test that is too long for a usual run: it is left out there.
ONLY_LARGE = (pytest.mark.search, pytest.mark.only_large)


def examples(usual: int) -> int:
    """Return the number of examples that a search tries."""
    return usual * FACTOR


def sample(values: Sequence[T], every: int) -> Sequence[T]:
    """Return every n-th value, and more of them the larger the search is."""
    return values[:: max(every // FACTOR, 1)]
