"""Covering arrays: a small sample of cases that contains every pair of values."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from random import Random
from typing import TypeVar

T = TypeVar("T")
Row = Sequence[Hashable]


def covering_array(
    cases: Iterable[T], values: Callable[[T], Row], *, strength: int, seed: int = 1
) -> list[T]:
    """Return a sample with every combination of `strength` values that occurs in cases.

    The sample is the same for the same seed.
    """
    candidates = list(cases)
    Random(seed).shuffle(candidates)
    uncovered = {
        combination
        for case in candidates
        for combination in _combinations(values(case), strength)
    }
    sample = []
    max_new = max(
        (len(_combinations(values(case), strength)) for case in candidates), default=0
    )
    # Greedy: first the cases with the most new combinations, then those with fewer.
    for min_new in range(max_new, 0, -1):
        for case in candidates:
            new = uncovered.intersection(_combinations(values(case), strength))
            if len(new) >= min_new:
                sample.append(case)
                uncovered -= new
    return sample


def _combinations(case: Row, strength: int) -> list[Hashable]:
    return list(combinations(enumerate(case), strength))
