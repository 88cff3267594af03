"""The terms of a connection, and the periods of a budget."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple


class Renewal(StrEnum):
    """The renewal period of a budget, named as in `get_budget`; in UTC."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms of a connection; `expires_at` is a Unix time."""

    read_only: bool = False
    expires_at: int | None = None
    budget_msat: int | None = None
    renewal: Renewal = Renewal.NEVER
    deleted: bool = False

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and time.time() >= self.expires_at


class Period(NamedTuple):
    """The current period of a budget in Unix times; `end` is the next start."""

    start: int
    end: int | None


def period_of(renewal: Renewal) -> Period:
    """Return the current period of a budget."""
    today = datetime.fromtimestamp(time.time(), UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if renewal is Renewal.NEVER:
        return Period(0, None)
    if renewal is Renewal.DAILY:
        return _period(today, today + timedelta(days=1))
    if renewal is Renewal.WEEKLY:
        monday = today - timedelta(days=today.weekday())
        return _period(monday, monday + timedelta(days=7))
    if renewal is Renewal.MONTHLY:
        first = today.replace(day=1)
        return _period(first, (first + timedelta(days=31)).replace(day=1))
    first = today.replace(month=1, day=1)
    return _period(first, first.replace(year=first.year + 1))


def _period(start: datetime, end: datetime) -> Period:
    return Period(int(start.timestamp()), int(end.timestamp()))
