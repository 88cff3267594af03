"""Billing periods: whole intervals counted from an anchor, in UTC."""

from calendar import monthrange
from datetime import UTC, datetime
from typing import NamedTuple

DAY = 86_400
SECONDS = {"day": DAY, "week": 7 * DAY}
MONTHS = {"month": 1, "year": 12}


class Period(NamedTuple):
    """Half-open interval in seconds since the epoch."""

    start: int
    end: int


def add(anchor: int, interval: str, count: int) -> int:
    """Return the time `count` intervals after the anchor.

    A day that a month does not have becomes its last day; later months use the
    anchor's day again (docs page "Billing cycle").
    """
    if interval in SECONDS:
        return anchor + count * SECONDS[interval]
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + count * MONTHS[interval]
    year, month = divmod(months, 12)
    day = min(start.day, monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def period_at(anchor: int, interval: str, at: int) -> Period:
    """Return the period that contains a time."""
    max_length = SECONDS.get(interval) or MONTHS[interval] * 31 * DAY
    # Months differ in length: start with an estimate that is never too late.
    number = max(0, (at - anchor) // max_length)
    while (end := add(anchor, interval, number + 1)) <= at:
        number += 1
    return Period(add(anchor, interval, number), end)
