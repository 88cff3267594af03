"""Events that are processed several in one task."""

from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.utils import timezone

from billing.models import StripeEvent
from billing.models.events import CLAIM_DUE
from billing.services.events import drain
from billing.services.events.process import process_received
from billing.tasks import (
    process_due_events,
    process_stripe_event,
    sweep_stripe_events,
)
from billing.tests.factories import StripeEventFactory
from billing.tests.support.threads import in_threads

pytestmark = pytest.mark.django_db


@pytest.fixture
def wake_ups(monkeypatch):
    """The wake-ups that were sent."""
    sent = []
    monkeypatch.setattr(drain.wake_up, "send", lambda: sent.append(1))
    return sent


def events(count, **columns):
    """Events that need no request to Stripe, the first of which is due the longest."""
    now = timezone.now()
    return [
        StripeEventFactory(
            type="unhandled", next_attempt_at=now - timedelta(count - number), **columns
        )
        for number in range(count)
    ]


def statuses():
    return dict(StripeEvent.objects.values_list("pk", "status"))


def test_all_due_events_are_processed_and_no_others(wake_ups):
    due = events(12)
    (later,) = events(1)
    (parked,) = events(1, status="parked")
    StripeEvent.objects.filter(pk=later.pk).update(
        next_attempt_at=timezone.now() + timedelta(hours=1)
    )

    process_due_events()

    assert statuses() == {
        **{event.pk: "processed" for event in due},
        later.pk: "received",
        parked.pk: "parked",
    }


def test_event_from_a_host_whose_clock_is_ahead_does_not_wait_for_the_sweep(wake_ups):
    with time_machine.travel(timezone.now(), tick=False) as clock:
        clock.shift(0.5)
        event = StripeEventFactory(type="unhandled")
        clock.shift(-0.5)

        process_due_events()

    assert statuses() == {event.pk: "processed"}


def test_event_is_processed_once_though_two_wake_ups_arrive(wake_ups, caplog):
    events(1)

    process_due_events()
    process_due_events()

    assert caplog.text.count("event_processed") == 1


def test_longest_due_event_is_processed_first(wake_ups, caplog):
    expected = [event.pk for event in events(12)]

    process_due_events()

    processed = StripeEvent.objects.order_by("processed_at")
    assert list(processed.values_list("pk", flat=True)) == expected


@pytest.mark.parametrize(("count", "helpers"), [(4, 0), (5, 1), (9, 1)])
def test_another_worker_is_woken_while_a_batch_is_full(
    wake_ups, django_capture_on_commit_callbacks, count, helpers
):
    events(count)

    with django_capture_on_commit_callbacks(execute=True):
        process_due_events()

    assert len(wake_ups) == helpers


def test_task_that_has_run_long_enough_leaves_the_rest_due(
    wake_ups, django_capture_on_commit_callbacks, monkeypatch
):
    events(12)
    monkeypatch.setattr(drain, "_SECONDS", 0)

    with django_capture_on_commit_callbacks(execute=True):
        process_due_events()

    assert list(statuses().values()).count("processed") == 1
    assert StripeEvent.objects.received().filter(enqueued_at=None).count() == 11
    assert wake_ups

    monkeypatch.undo()
    process_due_events()
    assert set(statuses().values()) == {"processed"}


def test_event_that_fails_unexpectedly_does_not_hold_up_the_others(
    wake_ups, django_capture_on_commit_callbacks, monkeypatch
):
    first, *others = events(3)

    def process(event):
        if event.pk == first.pk:
            StripeEvent.objects.filter(pk=event.pk).update(status="failed")
            raise ZeroDivisionError
        process_received(event)

    monkeypatch.setattr(drain, "process_received", process)

    with (
        django_capture_on_commit_callbacks(execute=True),
        pytest.raises(ZeroDivisionError),
    ):
        process_due_events()
    assert wake_ups

    process_due_events()
    assert {statuses()[event.pk] for event in others} == {"processed"}


def test_event_of_a_worker_that_died_gets_a_task_of_its_own(wake_ups, monkeypatch):
    sent: list[str] = []
    monkeypatch.setattr(process_stripe_event, "delay_many", sent.extend)
    monkeypatch.setattr(process_due_events, "delay", lambda: None)
    lost, other = events(2)
    StripeEvent.objects.claim_due(now=timezone.now(), limit=1)

    sweep_stripe_events()
    assert sent == []
    later = timezone.now() + timedelta(seconds=settings.ENQUEUED_TIMEOUT + 1)
    with time_machine.travel(later):
        sweep_stripe_events()
        sweep_stripe_events()
        process_due_events()

    assert sent == [lost.pk]
    assert statuses() == {lost.pk: "received", other.pk: "processed"}
    process_stripe_event(lost.pk)
    assert statuses()[lost.pk] == "processed"


def test_sweep_makes_up_for_a_lost_wake_up(wake_ups, monkeypatch):
    monkeypatch.setattr(process_due_events, "delay", process_due_events)
    events(3)

    sweep_stripe_events()

    assert set(statuses().values()) == {"processed"}


def test_events_are_processed_while_the_broker_is_down(
    django_capture_on_commit_callbacks, monkeypatch
):
    def fail():
        raise ConnectionError("broker away")

    monkeypatch.setattr(drain.wake_up, "send", fail)
    events(12)

    with django_capture_on_commit_callbacks(execute=True):
        process_due_events()

    assert set(statuses().values()) == {"processed"}


def test_claim_uses_the_index_of_received_events():
    events(3)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {CLAIM_DUE}", {"now": timezone.now(), "limit": 5})
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "billing_received_events" in plan


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_claims_at_once_get_different_events(monkeypatch):
    expected = {event.pk for event in events(40)}
    claimed: list[str] = []
    now = timezone.now()

    def claim():
        while batch := StripeEvent.objects.claim_due(now=now, limit=3):
            claimed.extend(event.pk for event in batch)

    assert in_threads(6, claim) == []

    assert len(claimed) == 40
    assert set(claimed) == expected
