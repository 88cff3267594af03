"""Size of the searches: `make search` sets SEARCH to make them larger."""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
#: Multiplies the number of examples.
FACTOR = int(os.environ.get("SEARCH", "1"))
#: Whether to search at random where a usual run has the same examples each time.
IS_LARGE = FACTOR > 1


def examples(usual: int) -> int:
    """Return the number of examples that a search tries."""
    return usual * FACTOR


def sample(values: Sequence[T], every: int) -> Sequence[T]:
    """Return every n-th value, and all of them in `make search`."""
    return values[:: 1 if IS_LARGE else every]
