"""Pulling events from Stripe's list."""

import json
from datetime import timedelta
from io import StringIO
from itertools import groupby, pairwise
from math import ceil

import pytest
import stripe
import time_machine
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import StripeCursor, StripeEvent
from billing.services.events.inbox import record_event
from billing.services.events.process import EVENT_TYPES
from billing.services.pull import events as pulling
from billing.tasks import process_stripe_event, pull_stripe_events
from billing.tests.support.threads import in_threads

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
#: Requests for one window.
REQUESTS = ceil(len(EVENT_TYPES) / 20)


@pytest.fixture
def enqueued_ids(monkeypatch):
    sent = []
    monkeypatch.setattr(
        process_stripe_event,
        "apply_async",
        lambda args=(), kwargs=None, **options: sent.append(args[0]),
    )
    return sent


@pytest.fixture
def pull(enqueued_ids, django_capture_on_commit_callbacks):
    """Pull as beat does."""

    def pull() -> None:
        with django_capture_on_commit_callbacks(execute=True):
            pull_stripe_events()

    return pull


@pytest.fixture
def change(sandbox):
    """Cause an event of a handled type, and return its id."""
    customers = sandbox.client().v1.customers

    def change() -> str:
        customers.delete(customers.create({"email": "ann@example.com"}).id)
        return str(newest(sandbox)["id"])

    return change


def newest(sandbox):
    return next(sandbox.app.store.scan("event"))


def listed(sandbox):
    return sandbox.requests("GET", "/v1/events")


def stored_ids():
    return set(StripeEvent.objects.values_list("pk", flat=True))


def call(*args):
    out = StringIO()
    call_command("pull_stripe_events", *args, stdout=out)
    return out.getvalue()


def deliver(settings, body):
    signature = stripe.WebhookSignature.generate_signature_header(
        body, settings.STRIPE_WEBHOOK_SECRETS[0]
    )
    record_event(body=body.encode(), signature=signature)


# --- what is stored


def test_event_that_no_webhook_delivered_is_stored_and_enqueued(
    sandbox, change, pull, enqueued_ids
):
    event_id = change()

    pull()

    event = StripeEvent.objects.get()
    sent = sandbox.client().v1.events.retrieve(event_id)
    assert (event.pk, event.type, event.livemode) == (
        event_id,
        "customer.deleted",
        False,
    )
    assert json.loads(event.body) == json.loads(str(sent))
    assert event.created_at.timestamp() == sent.created
    assert (event.status, enqueued_ids) == ("received", [event_id])
    assert event.enqueued_at


def test_only_handled_types_are_stored(sandbox, change, pull):
    event_id = change()  # also causes customer.created

    pull()

    assert stored_ids() == {event_id}


def test_event_that_was_delivered_is_neither_stored_nor_enqueued_again(
    sandbox, change, pull, enqueued_ids, settings
):
    event_id = change()
    deliver(settings, str(sandbox.client().v1.events.retrieve(event_id)))
    StripeEvent.objects.update(status="processed", processed_at=timezone.now())

    pull()
    pull()

    assert StripeEvent.objects.get().status == "processed"
    assert enqueued_ids == []


def test_event_delivered_during_the_pull_is_stored_once(
    sandbox, change, pull, settings, monkeypatch
):
    body = str(sandbox.client().v1.events.retrieve(change()))
    store = pulling._store

    def deliver_first(events):
        deliver(settings, body)
        store(events)

    monkeypatch.setattr(pulling, "_store", deliver_first)

    pull()

    assert StripeEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_four_pulls_at_once_store_an_event_once(sandbox, change, enqueued_ids):
    change()

    assert in_threads(4, pulling.pull_events) == []

    assert StripeEvent.objects.count() == 1
    assert StripeCursor.objects.get().last_error == ""


def test_event_of_the_other_mode_is_not_stored_and_keeps_no_other_back(
    sandbox, change, pull, caplog
):
    other, event_id = change(), change()
    row = sandbox.app.store.get("event", other)
    sandbox.app.store.put("event", {**row, "livemode": True})

    pull()

    assert stored_ids() == {event_id}
    assert "listed_event_refused" in caplog.text


def test_types_are_requested_twenty_at_a_time(sandbox, change, pull, monkeypatch):
    types = EVENT_TYPES | {f"a.type_{number:02}" for number in range(30)}
    monkeypatch.setattr("billing.services.pull.events.EVENT_TYPES", types)
    event_id = change()

    pull()

    last_window = -(-len(types) // 20)
    asked = [entry["params"]["types"] for entry in listed(sandbox)[-last_window:]]
    assert max(map(len, asked)) == 20
    assert {type for chunk in asked for type in chunk.values()} == types
    assert stored_ids() == {event_id}


def test_more_events_than_a_page_are_stored(sandbox, pull):
    customers = sandbox.client().v1.customers
    for _ in range(101):
        customers.delete(customers.create({"email": "ann@example.com"}).id)

    pull()

    assert StripeEvent.objects.count() == 101


# --- the cursor


def test_first_pull_reads_three_days_only(sandbox, change, pull, clock):
    change()
    clock.move(days=3, minutes=11)
    recent = change()

    pull()

    assert stored_ids() == {recent}


def test_cursor_survives_a_gap_of_a_week(sandbox, change, pull, clock):
    pull()
    clock.move(hours=1)
    ids = set()
    for _ in range(7):
        ids.add(change())
        clock.move(days=1)

    pull()

    assert stored_ids() == ids
    assert StripeCursor.objects.get().read_until >= timezone.now() - timedelta(
        minutes=1
    )


def test_gap_without_end_reads_no_further_back_than_stripe_has(
    sandbox, change, pull, clock
):
    pull()
    clock.move(days=1)
    change()
    clock.move(days=40)
    recent = change()

    pull()

    assert stored_ids() == {recent}


def test_event_that_appears_minutes_after_its_creation_is_stored(
    sandbox, change, pull, clock
):
    event_id = change()
    hidden = sandbox.app.store.get("event", event_id)
    sandbox.app.store.delete("event", event_id)
    clock.move(minutes=5)
    pull()

    sandbox.app.store.put("event", hidden)
    clock.move(minutes=4)
    pull()

    assert stored_ids() == {event_id}


def test_failed_pull_moves_no_cursor_and_the_next_one_reads_the_same_window(
    sandbox, change, pull, clock, caplog
):
    pull()
    before = StripeCursor.objects.get()
    clock.move(hours=2)
    event_id = change()
    sandbox.fault("status", method="GET", path="/v1/events", status=500, times=3)

    pull()

    failed = StripeCursor.objects.get()
    assert (failed.read_until, failed.read_at) == (before.read_until, before.read_at)
    assert failed.last_error_code == "stripe-unavailable"
    assert stored_ids() == set()

    pull()

    healed = StripeCursor.objects.get()
    assert stored_ids() == {event_id}
    assert (healed.last_error, healed.last_error_code) == ("", "")
    assert healed.read_at != before.read_at


def test_crash_between_two_days_of_a_gap_keeps_the_days_read(
    sandbox, change, pull, clock, monkeypatch
):
    pull()
    clock.move(days=1)
    first = change()
    clock.move(days=2)
    last = change()
    store = pulling._store

    def crash(events):
        if last in {event.pk for event in events}:
            raise KeyboardInterrupt
        store(events)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pulling, "_store", crash)
        pull()
    assert stored_ids() == {first}
    crashed_at = StripeCursor.objects.get().read_until

    requests = len(listed(sandbox))
    pull()

    assert stored_ids() == {first, last}
    assert crashed_at < StripeCursor.objects.get().read_until
    assert len(listed(sandbox)) == requests + REQUESTS


def test_pull_that_stripe_refuses_is_an_error_for_support(sandbox, pull, caplog):
    sandbox.fault(
        "status",
        method="GET",
        path="/v1/events",
        status=403,
        error={"message": "No permission", "type": "invalid_request_error"},
    )

    pull()

    assert StripeCursor.objects.get().last_error.startswith("No permission")
    (record,) = [each for each in caplog.records if "list_not_read" in each.message]
    assert record.levelname == "ERROR"


def test_pull_takes_one_request_per_twenty_types_while_nothing_is_lost(
    sandbox, change, pull, clock
):
    pull()
    for _ in range(3):
        clock.move(minutes=5)
        change()
        before = len(sandbox.requests())
        pull()
        assert len(sandbox.requests()) == before + REQUESTS


# --- by hand


def test_thirty_days_are_read_on_demand(sandbox, change, enqueued_ids, clock):
    old = change()
    clock.move(days=29)
    recent = change()

    assert call("--days", "30") == "2 events stored\n"

    assert stored_ids() == {old, recent}
    assert not StripeCursor.objects.exists()


def test_undelivered_events_only_are_read_on_demand(sandbox, enqueued_ids, settings):
    sandbox.client().v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:9/hook", "enabled_events": ["customer.deleted"]}
    )
    sandbox.pause_webhooks(True)
    customers = sandbox.client().v1.customers
    customers.delete(customers.create({"email": "ann@example.com"}).id)
    undelivered = newest(sandbox)
    customers.delete(customers.create({"email": "bob@example.com"}).id)
    delivered = newest(sandbox)
    done = {**delivered, "pending_webhooks": 0, "_waiting": []}
    sandbox.app.store.put("event", done)

    assert call("--undelivered") == "1 events stored\n"

    assert stored_ids() == {undelivered["id"]}


@pytest.mark.parametrize("days", ["0", "31", "-1", "x"])
def test_more_days_than_stripe_keeps_are_refused(days):
    with pytest.raises(CommandError, match="must be a number from 1 to 30"):
        call(f"--days={days}")


def test_command_reports_an_error_from_stripe(sandbox):
    sandbox.fault("status", method="GET", path="/v1/events", status=401)

    with pytest.raises(CommandError):
        call()


def test_each_request_is_for_one_day(sandbox, change, clock):
    """An interrupted read has done some of the work."""
    change()
    clock.move(days=3)

    assert pulling.pull_events_since(timezone.now() - 4 * DAY) == 1

    windows = [entry["params"]["created"] for entry in listed(sandbox)]
    *days, last = [window for window, _ in groupby(windows)]
    assert [int(day["lt"]) - int(day["gte"]) for day in days] == [86_400] * len(days)
    assert last == {"gte": days[-1]["lt"]}
    for earlier, later in pairwise(days):
        assert earlier["lt"] == later["gte"]


def test_stripe_whose_clock_is_ahead_loses_no_event(sandbox, change, pull):
    with time_machine.travel(timezone.now() - timedelta(minutes=4)):
        pull()
    event_id = change()

    with time_machine.travel(timezone.now() - timedelta(minutes=4)):
        pull()

    assert stored_ids() == {event_id}


def test_list_of_events_yields_nothing_for_no_types(sandbox):
    assert list(Stripe().events.list(types=[], created={"gte": 0})) == []
    assert listed(sandbox) == []
