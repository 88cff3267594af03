"""Pages of all events of a relay, from the newest to the oldest.

zooid sends the newest 1,000 events until a time, and leaves out those that our key must
not read. So a short page, and even an empty one, does not prove that there are no older
events; and in a second with more events than a page, `until` leads nowhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

from relays.clients.events import Filter, Page, StoredEvent

Fetch = Callable[[Filter], Page]
#: Kinds and authors in one filter: khatru closes the connection at a message of 512,000
#: bytes, and SQLite answers more than 32,766 values with nothing.
#: https://github.com/fiatjaf/khatru `MaxMessageSize` in relay.go
#: https://www.sqlite.org/limits.html#max_variable_number
_MAX_VALUES = 4096
#: An invitation, which zooid creates when it is asked for this kind, and shows nobody.
_INVITATION = 28_934
_KINDS = [kind for kind in range(65_536) if kind != _INVITATION]
#: Bytes that are fetched to split a crowded second: its events are held in memory, and
#: anybody who can write to a relay chooses their times.
MAX_SECOND_BYTES = 64 * 1024 * 1024
#: Memory of an event besides its line.
_OVERHEAD = 1024
#: Time to split a crowded second: a turn has to end before the sweep starts another.
_MAX_SECOND_TIME = 60.0


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

    It is split by kind, and then by those authors who are known, as far as the budget
    goes.
    """
    second = page.events[0].created_at
    filter = {"since": second, "until": second}
    found = {event.id: event for event in page.events}
    budget = _Budget(fetch)
    is_complete = True
    for part in _split(budget, filter, "kinds", _KINDS):
        found.update((event.id, event) for event in part.events)
        if part.is_cut and not budget.is_spent:
            kind = {"kinds": [part.events[0].kind]}
            authors = {event.pubkey for event in found.values()} | {*members()}
            for page in _split(budget, filter | kind, "authors", sorted(authors)):
                found.update((event.id, event) for event in page.events)
            # Others may have written in the same second.
            is_complete &= not part.is_full
    events = [event for event in found.values() if event.id not in position.ids]
    return Batch(events, Position(second - 1), is_complete and not budget.is_spent)


class _Budget:
    """Limit on what is fetched to split one second."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._bytes = 0
        self._end_at = monotonic() + _MAX_SECOND_TIME

    @property
    def is_spent(self) -> bool:
        return self._bytes >= MAX_SECOND_BYTES or monotonic() >= self._end_at

    def fetch(self, filter: Filter) -> Page:
        page = self._fetch(filter)
        self._bytes += sum(len(event.line) + _OVERHEAD for event in page.events)
        return page


def _split(
    budget: _Budget, filter: Filter, name: str, values: Sequence[object]
) -> Iterator[Page]:
    """Fetch pages by parts of the values, so small that a page holds all of a part.

    A page of one value may still be cut, and so is the last one of a spent budget.
    """
    for start in range(0, len(values), _MAX_VALUES):
        yield from _halve(budget, filter, name, values[start : start + _MAX_VALUES])


def _halve(
    budget: _Budget, filter: Filter, name: str, values: Sequence[object]
) -> Iterator[Page]:
    if budget.is_spent:
        return
    page = budget.fetch({**filter, name: [*values]})
    if not page.is_cut or len(values) == 1 or budget.is_spent:
        yield page
        return
    middle = len(values) // 2
    yield from _halve(budget, filter, name, values[:middle])
    yield from _halve(budget, filter, name, values[middle:])
