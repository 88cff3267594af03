"""Billing periods: whole intervals counted from an anchor, in UTC."""

from calendar import monthrange
from datetime import UTC, datetime
from typing import NamedTuple

DAY = 86_400
FIXED = {"day": DAY, "week": 7 * DAY}
MONTHS = {"month": 1, "year": 12}
LONGEST_MONTH = 31 * DAY


class Period(NamedTuple):
    """A half-open span of seconds since the epoch."""

    start: int
    end: int


def add(anchor: int, interval: str, count: int) -> int:
    """Return the moment `count` intervals after the anchor.

    A day of month that does not exist becomes the last one, and returns in the next
    month that has it (docs page "Billing cycle").
    """
    if interval in FIXED:
        return anchor + count * FIXED[interval]
    moment = datetime.fromtimestamp(anchor, UTC)
    months = moment.year * 12 + moment.month - 1 + count * MONTHS[interval]
    year, month = divmod(months, 12)
    day = min(moment.day, monthrange(year, month + 1)[1])
    return int(moment.replace(year=year, month=month + 1, day=day).timestamp())


def period_at(anchor: int, interval: str, count: int, moment: int) -> Period:
    """Return the period of `count` intervals that contains the moment."""
    longest = FIXED.get(interval) or MONTHS[interval] * LONGEST_MONTH
    number = max(0, (moment - anchor) // (longest * count))
    start = add(anchor, interval, number * count)
    while True:
        end = add(anchor, interval, (number + 1) * count)
        if moment < end:
            return Period(start, end)
        number, start = number + 1, end
