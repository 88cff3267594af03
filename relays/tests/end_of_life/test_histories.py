"""Random histories of suspension, payment, outages and settings, on the rules alone."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from caravel.tests.support.search import FACTOR, examples
from relays.services.end_of_life.dates import (
    Dates,
    Step,
    Terms,
    first_dates,
    next_step,
)

START = datetime(2026, 11, 30, tzinfo=UTC)
HISTORIES = examples(10_000)
TERMS = Terms(timedelta(days=30), timedelta(days=60))


@dataclass
class History:
    """One relay, from its first suspension, with all that its owner was told."""

    random: Random
    now: datetime = START
    dates: Dates | None = None
    #: Every date of the deletion since the suspension, in the API or a notice.
    announced: list[datetime] = field(default_factory=list)
    warned: dict[datetime, datetime] = field(default_factory=dict)
    offered_at: datetime | None = None
    suspended_at: datetime = START
    is_paying: bool = False
    is_deleted: bool = False
    terms: Terms = TERMS

    def run(self) -> None:
        actions = [self.suspend, self.pay, self.start_payment, self.fail_payment]
        actions += [self.change_settings, *[self.review] * 15]
        self.suspend()
        for _ in range(60):
            self.now += self.random.choice(
                [timedelta(hours=1), timedelta(days=1), timedelta(days=9)]
            )
            self.random.choice(actions)()
            self.deliver()
            if self.is_deleted:
                return

    def suspend(self) -> None:
        if self.dates is None:
            self.suspended_at = self.now
            self.withdraw()
            self.show(first_dates(self.now, self.terms))

    def pay(self) -> None:
        if self.random.random() < 0.3:
            self.dates, self.is_paying = None, False

    def start_payment(self) -> None:
        self.is_paying = self.dates is not None

    def fail_payment(self) -> None:
        self.is_paying = False

    def change_settings(self) -> None:
        export = timedelta(days=self.random.choice([1, 5, 30, 90]))
        period = timedelta(days=self.random.choice([1, 5, 30, 90]))
        self.terms = Terms(export, export + period, self.random.random() < 0.7)

    def review(self) -> None:
        if self.dates is None:
            return
        step, dates = next_step(self.dates, self.now, self.terms)
        if step == Step.DELETE:
            self.delete()
            return
        if step == Step.OFFER_EXPORT:
            assert self.offered_at is None
            self.offered_at = self.now
        self.show(dates)

    def show(self, dates: Dates) -> None:
        if dates.deletion_at is None:
            self.withdraw()
        else:
            assert dates.deletion_at >= self.now
            self.announced.append(dates.deletion_at)
            assert self.announced == sorted(self.announced)
        self.dates = dates

    def withdraw(self) -> None:
        """Tell the owner that there is no date any more."""
        self.announced, self.warned, self.offered_at = [], {}, None

    def deliver(self) -> None:
        dates = self.dates
        if dates and dates.is_announced and not dates.told_at and self.is_reachable():
            assert dates.deletion_at is not None
            self.warned[dates.deletion_at] = self.now
            self.dates = replace(dates, told_at=self.now)

    def is_reachable(self) -> bool:
        return self.random.random() < 0.6

    def delete(self) -> None:
        if self.is_paying:
            return
        assert self.dates is not None and self.offered_at is not None
        deletion_at = self.announced[-1]
        assert self.now >= deletion_at == self.dates.deletion_at
        # The last warning named this date, and came before it.
        assert self.warned[deletion_at] < deletion_at
        assert deletion_at > self.offered_at > self.suspended_at
        self.is_deleted = True


def histories() -> list[History]:
    found = []
    for seed in range(HISTORIES):
        history = History(Random(seed))
        history.run()
        found.append(history)
    return found


@pytest.mark.search
def test_no_relay_is_deleted_before_a_date_that_was_announced():
    deleted = [history.is_deleted for history in histories()]

    # The search would prove nothing if relays were always, or never, deleted.
    assert 1_000 * FACTOR < sum(deleted) < 9_000 * FACTOR
