"""Reading a list at Stripe from where the last read ended."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db.models import Value
from django.db.models.functions import Greatest
from django.utils import timezone

from billing.clients.stripe.errors import StripeRefused, StripeUnreadable
from billing.models import StripeCursor
from caravel.core.alerts import alert_support
from caravel.core.db.work_items import error_columns
from caravel.core.exceptions import CaravelError

logger = structlog.get_logger(__name__)

#: A long gap is read in parts, so that a read that is interrupted does not start over.
_PART = timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """Objects created since `start` and before `end`; None: until now."""

    start: datetime
    end: datetime | None = None

    @property
    def created(self) -> dict[str, int]:
        """The window as a filter of Stripe's lists."""
        filters = {"gte": int(self.start.timestamp())}
        return filters | ({"lt": int(self.end.timestamp())} if self.end else {})


def windows_since(start: datetime) -> Iterator[Window]:
    """Yield the days since `start`, oldest first; the last one has no end.

    Stripe's clock may be ahead of ours.
    """
    now = timezone.now()
    while now - start > _PART:
        yield Window(start, start + _PART)
        start += _PART
    yield Window(start)


def read_new(
    name: str,
    *,
    first: timedelta,
    overlap: timedelta,
    read: Callable[[Window], object],
    split: Callable[[datetime], Iterable[Window]] = windows_since,
) -> None:
    """Read a list since its cursor, which moves once `read` has stored a window.

    Begins `overlap` before the cursor, since Stripe may list an object a little late,
    and `first` before now if the list has never been read. An expected failure is
    recorded on the cursor; the next read repeats the window.
    """
    started_at = timezone.now()
    cursor, _ = StripeCursor.objects.get_or_create(
        pk=name, defaults={"read_until": started_at - first}
    )
    try:
        for window in split(cursor.read_until - overlap):
            read(window)
            _move(cursor, window.end or started_at)
    except CaravelError as exc:
        _record_failure(cursor, exc)
        return
    rows = StripeCursor.objects.filter(pk=name)
    rows.update(read_at=timezone.now(), last_error="", last_error_code="")


def _move(cursor: StripeCursor, until: datetime) -> None:
    # Never back: another worker may have read further.
    further = Greatest("read_until", Value(until))
    StripeCursor.objects.filter(pk=cursor.pk).update(read_until=further)


def _record_failure(cursor: StripeCursor, error: CaravelError) -> None:
    StripeCursor.objects.filter(pk=cursor.pk).update(**error_columns(error))
    if isinstance(error, StripeRefused | StripeUnreadable):
        # It will not end by itself, such as that of a key without the permission.
        alert_support("list_not_read", str(error), list=cursor.name)
    else:
        logger.warning("list_not_read", list=cursor.name, error=str(error))
