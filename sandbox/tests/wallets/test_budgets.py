"""Periods of budgets."""

from datetime import UTC, datetime

import pytest
import time_machine

from sandbox.wallets import Renewal, Terms
from sandbox.wallets.connections import period_of


def day(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("moment", "renewal", "start", "end"),
    [
        ("2027-03-17T15:30", Renewal.DAILY, "2027-03-17", "2027-03-18"),
        ("2027-03-17T15:30", Renewal.WEEKLY, "2027-03-15", "2027-03-22"),
        ("2027-03-15T00:00", Renewal.WEEKLY, "2027-03-15", "2027-03-22"),
        ("2027-03-21T23:59", Renewal.WEEKLY, "2027-03-15", "2027-03-22"),
        ("2027-03-17T15:30", Renewal.MONTHLY, "2027-03-01", "2027-04-01"),
        ("2027-02-28T23:59", Renewal.MONTHLY, "2027-02-01", "2027-03-01"),
        ("2027-12-31T12:00", Renewal.MONTHLY, "2027-12-01", "2028-01-01"),
        ("2027-03-17T15:30", Renewal.YEARLY, "2027-01-01", "2028-01-01"),
        ("2028-02-29T12:00", Renewal.YEARLY, "2028-01-01", "2029-01-01"),
    ],
)
def test_budget_period_follows_the_calendar(moment, renewal, start, end):
    with time_machine.travel(f"{moment}:00Z", tick=False):
        assert period_of(renewal) == (day(start), day(end))


def test_budget_period_without_renewal_starts_at_zero():
    assert period_of(Renewal.NEVER) == (0, None)


def test_connection_terms_expire_at_expires_at():
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        terms = Terms(expires_at=1_800_000_060)
        assert not terms.is_expired
        clock.shift(60)
        assert terms.is_expired
        assert not Terms().is_expired
