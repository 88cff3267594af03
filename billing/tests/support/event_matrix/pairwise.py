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
    candidates = [(case, _combinations(values(case), strength)) for case in cases]
    Random(seed).shuffle(candidates)
    uncovered = set().union(*(new for _, new in candidates))
    max_new = max((len(new) for _, new in candidates), default=0)
    sample = []
    # Greedy: first the cases with the most new combinations, then those with fewer.
    for min_new in range(max_new, 0, -1):
        for case, new in candidates:
            new &= uncovered
            if len(new) >= min_new:
                sample.append(case)
                uncovered -= new
        candidates = [each for each in candidates if each[1]]
    return sample


def _combinations(case: Row, strength: int) -> set[Hashable]:
    return set(combinations(enumerate(case), strength))
