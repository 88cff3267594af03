"""Size of the random searches: `make search` sets SEARCH to make them larger."""

import os

#: Multiplies the number of examples.
FACTOR = int(os.environ.get("SEARCH", "1"))
#: Whether to search at random where a usual run has the same examples each time.
IS_LARGE = FACTOR > 1


def examples(usual: int) -> int:
    """Return the number of examples that a search tries."""
    return usual * FACTOR
