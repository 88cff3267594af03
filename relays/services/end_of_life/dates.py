"""Dates of a suspended relay: the offer of an export, a warning, the deletion.

Pure rules, without database and settings. The date of the deletion only ever moves
later, until the suspension ends or the operator switches deletion off.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

#: How long before a deletion its owner is warned.
_WARNING = timedelta(days=7)
#: How late a deletion may be. After that the date was wrong: it gets another one.
_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True)
class Terms:
    """The operator's settings: times since the suspension."""

    export_after: timedelta
    delete_after: timedelta
    deletes: bool = True

    @property
    def export_period(self) -> timedelta:
        """The least time between the offer of an export and the deletion."""
        return self.delete_after - self.export_after

    @property
    def warning(self) -> timedelta:
        return min(_WARNING, self.export_period)


@dataclass(frozen=True)
class Dates:
    """Dates of one suspension."""

    export_offer_at: datetime | None = None
    export_offered_at: datetime | None = None
    deletion_at: datetime | None = None
    #: A warning that names `deletion_at` was created.
    is_announced: bool = False
    #: When a channel accepted that warning.
    told_at: datetime | None = None


class Step(StrEnum):
    WAIT = "wait"
    OFFER_EXPORT = "offer export"
    ANNOUNCE_DELETION = "announce deletion"
    POSTPONE = "postpone"
    DELETE = "delete"


def first_dates(now: datetime, terms: Terms) -> Dates:
    """Return the dates of a suspension that begins now."""
    return _complete(Dates(), now, terms)


def next_step(dates: Dates, now: datetime, terms: Terms) -> tuple[Step, Dates]:
    """Return the step that is due now, and the dates that hold from now on."""
    dates = _complete(dates, now, terms)
    if dates.export_offered_at is None and _has_come(dates.export_offer_at, now):
        offered = replace(dates, export_offered_at=now)
        # A late offer leaves the owner as much time as one on its date.
        return Step.OFFER_EXPORT, _postponed(offered, now, terms)
    if not _has_come(dates.deletion_at, now + terms.warning):
        return Step.WAIT, dates
    if not dates.is_announced:
        moved = _moved(dates, now + terms.warning)
        return Step.ANNOUNCE_DELETION, replace(moved, is_announced=True)
    if not _has_come(dates.deletion_at, now):
        return Step.WAIT, dates
    if _was_told_in_time(dates, terms) and not _is_late(dates, now):
        return Step.DELETE, dates
    return Step.POSTPONE, _postponed(dates, now, terms)


def _complete(dates: Dates, now: datetime, terms: Terms) -> Dates:
    """Return dates as the settings require them: a date that is missing is set."""
    offer_at = dates.export_offer_at or now + terms.export_after
    dates = replace(dates, export_offer_at=offer_at)
    if not terms.deletes:
        return replace(dates, deletion_at=None, is_announced=False, told_at=None)
    if dates.deletion_at is None:
        # An earlier offer did not name it.
        unoffered = replace(dates, export_offered_at=None)
        return _moved(unoffered, max(offer_at, now) + terms.export_period)
    return dates


def _postponed(dates: Dates, now: datetime, terms: Terms) -> Dates:
    """Return dates that leave the whole time between offer and deletion from now on."""
    return _moved(dates, now + terms.export_period) if terms.deletes else dates


def _moved(dates: Dates, to: datetime) -> Dates:
    """Return dates with a deletion at that time, if this is not earlier than before."""
    if dates.deletion_at is not None and dates.deletion_at >= to:
        return dates
    return replace(dates, deletion_at=to, is_announced=False, told_at=None)


def _was_told_in_time(dates: Dates, terms: Terms) -> bool:
    """Return whether the warning left its owner half of the time that it should."""
    if dates.deletion_at is None or dates.told_at is None:
        return False
    return dates.deletion_at - dates.told_at >= terms.warning / 2


def _is_late(dates: Dates, now: datetime) -> bool:
    return _has_come(dates.deletion_at, now - _TOLERANCE)


def _has_come(time: datetime | None, now: datetime) -> bool:
    return time is not None and time <= now
