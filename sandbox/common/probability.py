"""Fault probabilities that are repeatable with a seed."""

import random
from typing import Any


def seeded_random(seed: int | None, name: str) -> random.Random:
    """Return a random generator for one fault, independent of the other faults.

    Without a seed it differs in every run.
    """
    return random.Random(None if seed is None else f"{seed}/{name}")


class BadFault(ValueError):
    """A fault has an invalid value."""


def check_probability(chance: Any) -> None:
    """Raise BadFault unless the value is above 0 and at most 1."""
    if type(chance) not in (int, float) or not 0 < chance <= 1:
        raise BadFault("chance must be a number above 0 and at most 1")


def check_times(times: Any) -> None:
    """Raise BadFault unless the value is a positive integer, or None for no limit."""
    if times is not None and (type(times) is not int or times < 1):
        raise BadFault("times must be a whole number from 1, or null")
