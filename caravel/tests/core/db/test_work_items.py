from datetime import UTC, datetime, timedelta

import pytest

from billing.clients.stripe.errors import StripeRateLimited
from billing.models import StripeEvent
from billing.tests.factories import StripeEventFactory
from caravel.core.db.work_items import backoff, failure_columns

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_backoff_doubles_up_to_an_hour():
    waits = [backoff(n).total_seconds() for n in range(1, 12)]

    assert waits[:4] == [15, 30, 60, 120]
    assert waits[-1] == 3600


def test_secrets_in_last_error_are_redacted():
    error = RuntimeError("Invalid key sk_test_abcdefghijkl")

    columns = failure_columns(error, failures=0, now=NOW)

    assert columns["last_error"] == "Invalid key sk_test_[redacted]"


def test_next_attempt_waits_for_retry_after_of_stripe():
    error = StripeRateLimited("slow down", retry_after=600)

    columns = failure_columns(error, failures=0, now=NOW)

    assert columns["next_attempt_at"] == NOW + timedelta(seconds=600)


def test_claim_returns_due_rows_without_message_under_way():
    due = StripeEventFactory(next_attempt_at=NOW)
    lost = StripeEventFactory(
        next_attempt_at=NOW, enqueued_at=NOW - timedelta(seconds=301)
    )
    StripeEventFactory(next_attempt_at=NOW + timedelta(seconds=1))
    StripeEventFactory(next_attempt_at=NOW, enqueued_at=NOW - timedelta(seconds=299))

    claimed = StripeEvent.objects.received().claim(now=NOW)

    assert set(claimed) == {due.pk, lost.pk}


def test_second_claim_returns_nothing():
    StripeEventFactory.create_batch(3, next_attempt_at=NOW)

    first = StripeEvent.objects.received().claim(now=NOW)
    second = StripeEvent.objects.received().claim(now=NOW)

    assert (len(first), second) == (3, [])


def test_claim_returns_longest_due_rows_up_to_limit():
    rows = [
        StripeEventFactory(next_attempt_at=NOW - timedelta(minutes=n)) for n in range(5)
    ]

    claimed = StripeEvent.objects.received().claim(now=NOW, limit=2)

    assert set(claimed) == {rows[4].pk, rows[3].pk}
