"""Paging against zooid's rules: the newest rows first, hidden ones taken out after."""

import json
import random

import pytest

from caravel.tests.support.search import IS_LARGE
from relays.clients.events import PAGE_SIZE, Page, StoredEvent
from relays.services.exports import paging
from relays.services.exports.paging import Position, read_batch

ANN, BEN = "a" * 64, "b" * 64


class Rows:
    """Rows of a relay, some of which our key must not read.

    As `QueryStored` of https://github.com/coracle-social/zooid/blob/master/zooid/
    instance.go: the limit counts rows before the hidden ones are taken out.
    """

    def __init__(self):
        self.rows = []
        self.requests = 0
        self.filters = []

    def add(self, count=1, *, at, kind=1, author=ANN, hidden=False):
        for _ in range(count):
            id = f"{len(self.rows):064x}"
            event = StoredEvent(id, author, at, kind, id.encode())
            self.rows.append((event, hidden))

    def fetch(self, filter):
        self.requests += 1
        self.filters.append(filter)
        matching = [row for row in self.rows if self._matches(row[0], filter)]
        matching.sort(key=lambda row: -row[0].created_at)
        return Page(tuple(e for e, hidden in matching[:PAGE_SIZE] if not hidden))

    def readable(self):
        return sorted(event.id for event, hidden in self.rows if not hidden)

    @staticmethod
    def _matches(event, filter):
        # As in zooid, 0 is no limit.
        until, since = filter.get("until") or 2**63, filter.get("since", 0)
        kinds, authors = filter.get("kinds"), filter.get("authors")
        return (
            since <= event.created_at <= until
            and (kinds is None or event.kind in range(kinds[0], kinds[-1] + 1))
            and (authors is None or event.pubkey in authors)
        )


def read_all(rows, members=()):
    """Return the ids of all events, and the number of gaps."""
    position, ids, gaps = Position(), [], 0
    while batch := read_batch(rows.fetch, position, lambda: [*members]):
        ids += [event.id for event in batch.events]
        position = batch.position
        gaps += not batch.is_complete
    return ids, gaps


@pytest.fixture
def rows():
    return Rows()


def test_relay_without_events_has_no_batch(rows):
    assert read_batch(rows.fetch, Position(), list) is None
    assert rows.requests == 1


@pytest.mark.parametrize("count", [1, 499, 999, 1000, 1001, 2500])
def test_each_event_is_read_once(rows, count):
    for at in range(count):
        rows.add(at=1_000_000 + at // 3)

    ids, gaps = read_all(rows)

    assert sorted(ids) == rows.readable()
    assert gaps == 0


def test_page_that_ends_within_a_second_goes_on_in_it(rows):
    rows.add(900, at=2_000)
    rows.add(400, at=1_999)
    rows.add(1, at=1_998)

    ids, _ = read_all(rows)

    assert sorted(ids) == rows.readable()


def test_second_with_more_events_than_a_page_is_split_by_kind(rows):
    for kind in range(0, 60_000, 20):
        rows.add(at=2_000, kind=kind)
    rows.add(5, at=1_000)

    ids, gaps = read_all(rows)

    assert sorted(ids) == rows.readable()
    assert gaps == 0


def test_second_with_more_events_of_a_kind_is_split_by_author_and_noted(rows):
    members = [f"{number:064x}" for number in range(40)]
    for member in members:
        rows.add(60, at=2_000, author=member)
    rows.add(5, at=1_000)

    ids, gaps = read_all(rows, members)

    assert sorted(ids) == rows.readable()
    # Somebody who is no member any more may have written in it, too.
    assert gaps == 1


def test_more_events_of_one_author_in_a_second_than_a_page_are_noted_as_missing(rows):
    rows.add(1500, at=2_000)
    rows.add(3, at=1_999)

    ids, gaps = read_all(rows)

    assert len(ids) == len({*ids}) == 1003
    assert gaps == 1


def test_second_with_more_events_than_fit_into_memory_is_noted_as_incomplete(
    rows, monkeypatch
):
    monkeypatch.setattr(paging, "MAX_SECOND_BYTES", 5_000_000)
    for kind in range(0, 60_000, 5):
        rows.add(at=2_000, kind=kind)
    rows.add(5, at=1_000)

    ids, gaps = read_all(rows)

    assert 1_000 < len(ids) == len({*ids}) < 5_000
    assert {*rows.readable()[-5:]} <= {*ids}
    assert gaps == 1


def test_second_that_takes_too_long_is_noted_as_incomplete(rows, monkeypatch):
    monkeypatch.setattr(paging, "_MAX_SECOND_TIME", 0.0)
    rows.add(1_500, at=2_000)
    rows.add(5, at=1_000)

    ids, gaps = read_all(rows)

    assert (len(ids), gaps) == (1_005, 1)


def test_requests_stay_below_the_size_that_khatru_accepts(rows):
    """512,000 bytes: a larger message closes the connection."""
    members = [f"{number:064x}" for number in range(9_000)]
    for member in members[:1_200]:
        rows.add(at=2_000, author=member)

    read_all(rows, members)

    assert max(len(json.dumps(filter)) for filter in rows.filters) < 400_000


def test_no_invitation_is_created_by_asking_for_its_kind(rows):
    """`QueryStored` of zooid's instance.go stores one for whoever asks for 28934."""
    for kind in range(2_000):
        rows.add(at=2_000, kind=28_000 + kind)

    read_all(rows)

    assert any("kinds" in filter for filter in rows.filters)
    assert not any(28_934 in filter.get("kinds", ()) for filter in rows.filters)


@pytest.mark.parametrize("gap", [1, 3_600, 86_400 * 365])
def test_events_behind_a_thousand_hidden_ones_are_found(rows, gap):
    """Such as those of groups, while groups are switched off."""
    now = 1_700_000_000
    rows.add(10, at=now)
    for second in range(4_000):
        rows.add(at=now - 1 - second, hidden=True)
    rows.add(20, at=now - 4_000 - gap)

    ids, gaps = read_all(rows)

    assert sorted(ids) == rows.readable()
    assert gaps == 1


def test_relay_with_nothing_but_hidden_events_has_an_end(rows):
    rows.add(3_000, at=1_700_000_000, hidden=True)

    ids, _ = read_all(rows)

    assert ids == []
    assert rows.requests <= 130


def test_time_zero_ends_since_zooid_takes_it_as_no_time_at_all(rows):
    rows.add(3, at=0)
    rows.add(3, at=1)

    ids, _ = read_all(rows)

    assert sorted(ids) == rows.readable()


@pytest.mark.search
def test_random_relays_are_read_completely():
    for seed in range(2_000 if IS_LARGE else 60):
        dice = random.Random(seed)
        rows, at = Rows(), 1_700_000_000
        for _ in range(dice.randrange(1, 12)):
            at -= dice.choice([1, 1, 60, 10**6])
            rows.add(
                dice.choice([1, 50, 700, 990]),
                at=at,
                kind=dice.choice([1, 7, 1059, 30_023]),
                author=dice.choice([ANN, BEN]),
            )

        ids, gaps = read_all(rows, [ANN, BEN])

        assert sorted(ids) == rows.readable(), seed
        assert gaps == 0, seed
