"""Exports of relays that run on a zooid, also of one that is off."""

import gzip
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import BoundedSemaphore
from unittest.mock import patch

import pytest
import time_machine
from django.db import connection, transaction
from django.utils import timezone

from relays.clients.events import RelayReader
from relays.models import Plan, Relay, RelayExport
from relays.services import lifecycle
from relays.services.exports import export as service
from relays.services.exports import paging
from relays.services.exports.endings import lock_unfinished
from relays.services.exports.export import MAX_FAILURES, export_relay
from relays.services.exports.files import open_file
from relays.services.exports.order import order_export
from relays.tasks import sweep_relay_exports
from relays.tests.factories import DoneExportFactory, RelayExportFactory
from sandbox.common.nostr import Event

pytestmark = pytest.mark.django_db(transaction=True)
State = RelayExport.State
ANN = "a" * 64
NOW = 1_700_000_000


class Killed(BaseException):
    """Stands for the end of a worker's process."""


def note(number, *, at=None, **fields):
    """Return an event that a relay could store; nobody verifies its signature."""
    defaults = {
        "id": f"{number:064x}",
        "pubkey": ANN,
        "created_at": NOW - number if at is None else at,
        "kind": 1,
        "tags": (("t", "birds"),),
        "content": f"Note {number}: Grüße 🐦\n",
        "sig": "1" * 128,
    }
    return Event(**(defaults | fields))


@pytest.fixture
def relay(provisioning):
    return provisioning.served_relay(subdomain="birds")


@pytest.fixture
def order(provisioning):
    """Return a function that orders an export."""

    def order_one(relay):
        return order_export(relay_id=relay.pk)

    return order_one


def run(export):
    """Run the task once, and return the row."""
    export_relay(export_id=export.pk)
    return RelayExport.objects.get(pk=export.pk)


def content(export):
    """Return the events in the file."""
    file = open_file(RelayExport.objects.get(pk=export.pk))
    data = b"".join(file.parts)
    assert len(data) == file.size
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def stored(provisioning, relay):
    """Return the events at zooid, newest first."""
    return [event.to_dict() for event in provisioning.zooid.events(relay.pk)]


def by_id(events):
    return sorted(
        (json.loads(json.dumps(event)) for event in events), key=lambda e: e["id"]
    )


def test_all_events_of_a_relay_are_exported_as_they_are(provisioning, relay, order):
    provisioning.zooid.add_events(relay.pk, map(note, range(2_345)))

    export = run(order(relay))

    assert export.state == State.DONE
    assert export.events == 2_345
    assert export.parts.count() == 3
    assert export.expires_at - export.finished_at == timedelta(days=30)
    assert by_id(content(export)) == by_id(stored(provisioning, relay))
    assert [e["created_at"] for e in content(export)] == list(
        range(NOW, NOW - 2_345, -1)
    )
    assert provisioning.methods == []


def test_relay_that_strips_signatures_gives_them_to_its_own_key(provisioning, order):
    relay = provisioning.served_relay(strip_signatures=True)
    provisioning.zooid.add_event(relay.pk, note(1))

    (event,) = content(run(order(relay)))

    assert event["sig"] == "1" * 128


def test_more_events_in_one_second_than_the_relay_sends_at_once(
    provisioning, relay, order
):
    notes = [note(n, at=NOW, kind=n % 7 + 1_000) for n in range(2_500)]
    provisioning.zooid.add_events(relay.pk, [*notes, note(9_999, at=NOW - 5)])

    export = run(order(relay))

    assert len(content(export)) == export.events == 2_501
    assert export.gaps == 0


@pytest.mark.parametrize(
    ("kind", "state"), [("html", State.DONE), ("error", State.RUNNING)]
)
def test_crowded_second_is_read_without_the_members_if_zooid_does_not_list_them(
    provisioning, relay, order, kind, state
):
    """Such as zooid before 2026-04. One that is away is asked again later."""
    provisioning.zooid.add_events(relay.pk, (note(n, at=NOW) for n in range(1_200)))
    provisioning.zooid.fault(kind)

    export = run(order(relay))

    assert export.state == state
    if state == State.DONE:
        assert (export.events, export.gaps) == (1_000, 1)


def test_relay_without_events_has_a_valid_empty_file(relay, order):
    export = run(order(relay))

    assert export.state == State.DONE
    assert content(export) == []


def test_event_that_arrives_during_the_export_does_not_disturb_it(
    provisioning, relay, order
):
    provisioning.zooid.add_events(relay.pk, map(note, range(1, 1_501)))
    fetch = RelayReader.fetch_page

    def fetch_and_write(reader, filter):
        provisioning.zooid.add_event(relay.pk, note(0))
        return fetch(reader, filter)

    with patch.object(RelayReader, "fetch_page", fetch_and_write):
        export = run(order(relay))

    assert len({event["id"] for event in content(export)}) == export.events == 1_501


# --- a relay that is off


def test_dark_relay_is_read_under_a_name_that_nobody_knows(provisioning, relay, order):
    provisioning.zooid.add_events(relay.pk, map(note, range(1_200)))
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    provisioning.sync(relay)
    provisioning.zooid.requests.clear()

    export = run(order(relay))

    assert export.state == State.WAITING
    provisioning.sync(relay)
    assert provisioning.config(relay)["host"] == export.window_host
    assert provisioning.config(relay)["inactive"] is False
    assert provisioning.document(relay) is None
    relay.refresh_from_db()
    dark_at = relay.dark_at

    export = run(export)

    assert export.state == State.DONE
    provisioning.sync(relay)
    assert provisioning.config(relay)["inactive"] is True
    assert provisioning.config(relay)["host"].startswith("birds.")
    assert by_id(content(export)) == by_id(stored(provisioning, relay))
    assert provisioning.methods == ["PATCH", "PATCH"]
    relay.refresh_from_db()
    assert relay.status == "delinquent"
    assert relay.served_at < dark_at


def test_private_names_cannot_be_guessed(provisioning, relay, order):
    lifecycle.deactivate_relay(relay_id=relay.pk)
    first = run(order(relay)).window_host
    RelayExport.objects.update(state=State.FAILED)

    second = run(order(relay)).window_host

    assert first != second
    assert len(first.partition(".")[0]) == 33


def test_waiting_export_looks_again_in_seconds(provisioning, relay, order):
    lifecycle.deactivate_relay(relay_id=relay.pk)
    export = order(relay)

    with patch("relays.tasks.export_relay.apply_async") as send:
        run(export)

    assert send.call_args.kwargs["countdown"] == 5


def test_relay_that_is_switched_on_again_is_read_under_its_own_name(
    provisioning, relay, order
):
    provisioning.zooid.add_events(relay.pk, map(note, range(1_200)))
    lifecycle.deactivate_relay(relay_id=relay.pk)
    export = run(order(relay))
    provisioning.sync(relay)

    lifecycle.activate_relay(relay_id=relay.pk)
    provisioning.sync(relay)

    assert provisioning.document(relay)
    assert not RelayExport.objects.with_open_window().exists()
    assert run(export).state == State.DONE
    provisioning.sync(relay)
    assert provisioning.document(relay)


def test_relay_that_is_suspended_in_the_middle_is_read_to_its_end(
    provisioning, relay, order, monkeypatch
):
    provisioning.zooid.add_events(relay.pk, map(note, range(2_200)))
    export = order(relay)
    fetch_one_page(monkeypatch)
    assert run(export).events == 1_000
    monkeypatch.undo()

    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    provisioning.sync(relay)
    run(export)
    provisioning.sync(relay)

    assert run(export).state == State.DONE
    assert by_id(content(export)) == by_id(stored(provisioning, relay))


def fetch_one_page(monkeypatch):
    """Let each turn read one page."""
    times = itertools.cycle([0.0, 0.0, service.TURN])
    monkeypatch.setattr(service, "monotonic", times.__next__)


@pytest.mark.parametrize("is_dark", [False, True], ids=["running", "dark"])
def test_deletion_of_the_relay_ends_its_export(provisioning, relay, order, is_dark):
    if is_dark:
        lifecycle.deactivate_relay(relay_id=relay.pk)
    export = run(order(relay)) if is_dark else order(relay)
    provisioning.sync(relay)

    lifecycle.delete_relay(relay_id=relay.pk)
    export = run(export)
    provisioning.sync(relay)

    assert export.state == State.FAILED
    assert export.failure.startswith("The relay was deleted")
    assert export.window_host == ""
    assert str(relay.pk) not in provisioning.zooid.relays


# --- interruptions


def test_killed_worker_loses_nothing_and_repeats_nothing(provisioning, relay, order):
    provisioning.zooid.add_events(relay.pk, map(note, range(3_300)))
    export = order(relay)
    read, calls = paging.read_batch, iter(range(100))

    def kill(*args):
        if next(calls) % 2:
            raise Killed
        return read(*args)

    with patch.object(service, "read_batch", kill):
        kills = 0
        while RelayExport.objects.unfinished().exists():
            try:
                run(export)
            except Killed:
                kills += 1

    assert kills >= 3
    assert by_id(content(export)) == by_id(stored(provisioning, relay))


def test_worker_that_is_killed_while_it_stores_a_page_stores_none_of_it(
    provisioning, relay, order
):
    provisioning.zooid.add_events(relay.pk, map(note, range(1_500)))
    export = order(relay)

    # Read after the part is stored, and before the position is.
    with (
        patch("relays.services.exports.export.timezone.now", side_effect=Killed),
        pytest.raises(Killed),
    ):
        export_relay(export_id=export.pk)

    assert not export.parts.exists()
    assert run(export).events == len(content(export)) == 1_500


def test_broken_connection_is_a_failure_after_which_it_goes_on(
    provisioning, relay, order
):
    provisioning.zooid.add_events(relay.pk, map(note, range(2_500)))
    export = order(relay)
    provisioning.zooid.max_messages = 1_500

    export = run(export)

    assert (export.state, export.events) == (State.RUNNING, 1_000)
    assert export.last_error_code == "relay-unreachable"
    assert export.reached_at.timestamp() == NOW - 999
    provisioning.zooid.max_messages = None
    export = run(export)
    assert (export.state, export.failures, export.last_error) == (State.DONE, 0, "")
    assert by_id(content(export)) == by_id(stored(provisioning, relay))


def test_two_workers_at_once_store_no_event_twice(provisioning, relay, order):
    provisioning.zooid.add_events(relay.pk, map(note, range(5_000)))
    export = order(relay)

    def work(_):
        try:
            export_relay(export_id=export.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, range(2)))

    assert by_id(content(export)) == by_id(stored(provisioning, relay))


def test_long_export_lets_others_have_its_thread(
    provisioning, relay, order, monkeypatch
):
    provisioning.zooid.add_events(relay.pk, map(note, range(1_500)))
    export = order(relay)
    fetch_one_page(monkeypatch)

    with patch("relays.tasks.export_relay.apply_async") as send:
        export = run(export)

    assert (export.state, export.events) == (State.RUNNING, 1_000)
    send.assert_called_once()


def test_page_of_one_export_does_not_keep_those_of_others_waiting(relay, order):
    """Nor a change of the plan that they share."""
    one, other = order(relay), RelayExportFactory(relay__plan=relay.plan)

    def lock_other():
        try:
            with transaction.atomic():
                Plan.objects.select_for_update(nowait=True).get(pk=relay.plan_id)
                return lock_unfinished(other.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads, transaction.atomic():
        assert lock_unfinished(one.pk)
        assert threads.submit(lock_other).result() == other


def test_exports_beyond_a_few_wait_and_leave_the_threads_to_payments(
    provisioning, relay, order, monkeypatch
):
    provisioning.zooid.add_events(relay.pk, map(note, range(3)))
    running = order(relay)
    waiting = RelayExportFactory(enqueued_at=timezone.now())
    monkeypatch.setattr(service, "_slots", BoundedSemaphore(1))
    fetch = RelayReader.fetch_page

    def fetch_while_another_comes(reader, filter):
        assert run(waiting).enqueued_at is None
        return fetch(reader, filter)

    with (
        patch.object(RelayReader, "fetch_page", fetch_while_another_comes),
        patch("relays.tasks.export_relay.apply_async") as send,
    ):
        running = run(running)

    assert running.state == State.DONE
    assert RelayExport.objects.get(pk=waiting.pk).state == State.WAITING
    # Its turn is next, without a sweep.
    assert send.call_args.args[0] == (waiting.pk,)


def test_long_export_goes_on_behind_those_that_have_waited_longer(
    provisioning, relay, order, monkeypatch
):
    provisioning.zooid.add_events(relay.pk, map(note, range(1_500)))
    waiting, export = RelayExportFactory(), order(relay)
    fetch_one_page(monkeypatch)

    with patch("relays.tasks.export_relay.apply_async") as send:
        export = run(export)

    assert export.state == State.RUNNING
    assert [call.args[0] for call in send.call_args_list] == [(waiting.pk,)]
    assert [*RelayExport.objects.unfinished().due(timezone.now())] == [export]


def test_export_is_given_up_after_a_day_without_the_relay(provisioning, relay, order):
    lifecycle.deactivate_relay(relay_id=relay.pk)
    export = order(relay)
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        start = timezone.now()
        for _ in range(MAX_FAILURES):
            export = run(export)
            traveller.move_to(max(export.next_attempt_at, timezone.now()))
        waited = timezone.now() - start

    assert export.state == State.FAILED
    assert timedelta(hours=12) < waited < timedelta(hours=30)
    assert export.window_host == ""
    assert export.failure == (
        "The relay could not be read. Please try again, or ask support."
    )


def test_export_that_is_too_large_is_given_up(provisioning, relay, order, settings):
    provisioning.zooid.add_events(relay.pk, map(note, range(1_500)))
    lifecycle.deactivate_relay(relay_id=relay.pk)
    export = run(order(relay))
    provisioning.sync(relay)
    size = 5_000

    with patch.object(service, "max_bytes", lambda: size):
        export = run(export)
    provisioning.sync(relay)

    assert export.state == State.FAILED
    assert "ask support for a copy" in export.failure
    assert not export.parts.exists()
    assert provisioning.config(relay)["inactive"] is True


def test_only_the_newest_file_of_a_relay_is_kept(relay, order):
    old, other = DoneExportFactory(relay=relay), DoneExportFactory()

    run(order(relay))

    old.refresh_from_db()
    assert (old.state, old.parts.count()) == (State.EXPIRED, 0)
    assert other.parts.count() == 2


def test_finished_export_is_not_touched_by_a_late_message(relay, order):
    export = run(order(relay))

    again = run(export)

    assert again.finished_at == export.finished_at
    assert again.parts.count() == export.parts.count()


def test_sweep_sends_lost_messages_again_and_deletes_old_files(relay, order):
    old = DoneExportFactory(expires_at=timezone.now())
    export = order(relay)
    RelayExport.objects.filter(pk=export.pk).update(enqueued_at=None)

    with patch("relays.tasks.export_relay.delay_many") as send:
        sweep_relay_exports()

    send.assert_called_once_with([export.pk])
    old.refresh_from_db()
    assert old.state == State.EXPIRED


def test_relay_of_another_is_not_exported(provisioning, relay, order):
    """Such as one that zooid serves under a name that is now ours."""
    provisioning.zooid.edit(relay.pk, {"secret": "1" * 64, "schema": "another"})
    provisioning.zooid.reload()

    export = run(order(relay))

    assert (export.state, export.last_error_code) == (
        State.WAITING,
        "relay-unreachable",
    )
    assert Relay.objects.get(pk=relay.pk).secret.reveal() not in export.last_error
