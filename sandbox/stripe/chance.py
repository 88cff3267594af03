"""Chances that fall alike in every run with the same seed."""

import random
from typing import Any


def generator(seed: int | None, rule: str) -> random.Random:
    """Return a rule's own generator, so that rules do not disturb each other.

    Without a seed it is different in every run.
    """
    return random.Random(None if seed is None else f"{seed}/{rule}")


class BadFault(ValueError):
    """A fault that makes no sense."""


def check_chance(chance: Any) -> None:
    """Raise BadFault when this is no probability above zero."""
    if type(chance) not in (int, float) or not 0 < chance <= 1:
        raise BadFault("chance is a number above 0 and at most 1")


def check_times(times: Any) -> None:
    """Raise BadFault when this says neither how often nor, as null, for ever."""
    if times is not None and (type(times) is not int or times < 1):
        raise BadFault("times is a whole number from 1, or null")
