"""Pages of all events of a relay, from the newest to the oldest.

zooid sends the newest 1,000 events until a time, and leaves out those that our key must
not read. So a short page, and even an empty one, does not prove that there are no older
events; and in a second with more events than a page, `until` leads nowhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from relays.clients.events import Filter, Page, StoredEvent

Fetch = Callable[[Filter], Page]
#: Kinds and authors in one filter: SQLite takes 32,766 values, and answers more of them
#: with nothing. https://www.sqlite.org/limits.html#max_variable_number
_MAX_VALUES = 8192
_KINDS = range(65_536)


@dataclass(frozen=True)
class Position:
    """What was read: all events after `until`, and those of that second in `ids`."""

    until: int | None = None
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Batch:
    """Further events, and the position after them."""

    events: Sequence[StoredEvent]
    position: Position
    #: False if there may be more events than the relay has shown.
    is_complete: bool = True


def read_batch(
    fetch: Fetch, position: Position, members: Callable[[], Sequence[str]]
) -> Batch | None:
    """Return the next events; None if there are no older ones.

    `members` may be asked for the authors that a crowded second is split by.
    """
    until = position.until
    # zooid takes `until` 0 as none.
    if until is not None and until <= 0:
        return None
    page = fetch({} if until is None else {"until": until})
    if not page.events:
        found = None if until is None else _skip_unreadable(fetch, until)
        return Batch((), found, is_complete=False) if found else None
    oldest = min(event.created_at for event in page.events)
    if oldest == until and page.is_cut:
        return _read_second(fetch, page, position, members)
    events = [event for event in page.events if event.id not in position.ids]
    if oldest == until:
        return Batch(events, Position(until - 1))
    ids = frozenset(event.id for event in page.events if event.created_at == oldest)
    return Batch(events, Position(oldest, ids))


def _skip_unreadable(fetch: Fetch, until: int) -> Position | None:
    """Return where readable events go on below a page without any, if they do.

    A thousand unreadable events in a row hide what is older. The steps grow slowly, or
    they would jump over events behind a few thousand.
    """
    before, step = 0, 1
    while step < until:
        if fetch({"until": until - step}).events:
            return Position(_newest_readable(fetch, until - step, until - before))
        before, step = step, step + step // 5 + 1
    return None


def _newest_readable(fetch: Fetch, low: int, high: int) -> int:
    """Return the latest time with events, between one with and one without."""
    while high - low > 1:
        middle = (low + high) // 2
        if fetch({"until": middle}).events:
            low = middle
        else:
            high = middle
    return low


def _read_second(
    fetch: Fetch,
    page: Page,
    position: Position,
    members: Callable[[], Sequence[str]],
) -> Batch:
    """Return the rest of a second with more events than a page.

    It is split by kind, and then by those authors who are known.
    """
    second = page.events[0].created_at
    filter = {"since": second, "until": second}
    found = {event.id: event for event in page.events}
    is_complete = True
    for part in _split(fetch, filter, "kinds", _KINDS):
        found.update((event.id, event) for event in part.events)
        if part.is_cut:
            kind = {"kinds": [part.events[0].kind]}
            authors = {event.pubkey for event in found.values()} | {*members()}
            parts = [*_split(fetch, filter | kind, "authors", sorted(authors))]
            found.update((each.id, each) for page in parts for each in page.events)
            # Others may have written in the same second.
            is_complete &= not part.is_full
    events = [event for event in found.values() if event.id not in position.ids]
    return Batch(events, Position(second - 1), is_complete)


def _split(
    fetch: Fetch, filter: Filter, name: str, values: Sequence[object]
) -> Iterator[Page]:
    """Fetch pages by parts of the values, so small that a page holds all of a part.

    A page of one value may still be cut.
    """
    for start in range(0, len(values), _MAX_VALUES):
        yield from _halve(fetch, filter, name, values[start : start + _MAX_VALUES])


def _halve(
    fetch: Fetch, filter: Filter, name: str, values: Sequence[object]
) -> Iterator[Page]:
    page = fetch({**filter, name: [*values]})
    if not page.is_cut or len(values) == 1:
        yield page
        return
    middle = len(values) // 2
    yield from _halve(fetch, filter, name, values[:middle])
    yield from _halve(fetch, filter, name, values[middle:])
