"""Some of many cells, so that whatever two values there are meet in one of them."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from random import Random
from typing import TypeVar

T = TypeVar("T")
Row = Sequence[Hashable]


def covering(
    rows: Iterable[T], values: Callable[[T], Row], *, strength: int, seed: int = 1
) -> list[T]:
    """Return rows in which each combination of values that any row has occurs.

    `strength` is how many values a combination has. Always the same choice.
    """
    pool = list(rows)
    Random(seed).shuffle(pool)
    left = {meeting for row in pool for meeting in _meetings(values(row), strength)}
    chosen = []
    most = len(_meetings(values(pool[0]), strength))
    # Those that bring most come first; the others wait until nothing brings as much.
    for least in range(most, 0, -1):
        for row in pool:
            new = left.intersection(_meetings(values(row), strength))
            if len(new) >= least:
                chosen.append(row)
                left -= new
    return chosen


def _meetings(row: Row, strength: int) -> list[Hashable]:
    return list(combinations(enumerate(row), strength))
