"""Orders of exports, and their ends without a relay being read."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.utils import timezone

from relays.exceptions import ExportNotPossible, ExportQuota, UnknownRelay
from relays.models import Relay, RelayExport, RelayExportPart, RelaySync
from relays.services.exports import endings
from relays.services.exports.endings import LIFETIME, expire_exports
from relays.services.exports.order import MAX_PER_DAY, cancel_export, order_export
from relays.services.lifecycle import delete_relay
from relays.tasks import export_relay, sweep_relay_exports
from relays.tests.factories import DoneExportFactory, RelayExportFactory, RelayFactory
from tenants.models import Activity

pytestmark = pytest.mark.django_db
State = RelayExport.State


@pytest.fixture
def relay():
    return RelayFactory(first_served_at=timezone.now(), subdomain="birds")


def test_order_is_enqueued_and_in_the_activity_log(
    relay, django_capture_on_commit_callbacks
):
    with (
        patch.object(export_relay, "apply_async") as send,
        django_capture_on_commit_callbacks(execute=True),
    ):
        export = order_export(relay_id=relay.pk)

    assert export.state == State.WAITING
    assert send.call_args.args[0] == (export.pk,)
    activity = Activity.objects.get(type="export_relay")
    assert (activity.tenant_id, activity.subject_id) == (relay.tenant_id, str(relay.pk))


def test_order_while_one_is_under_way_returns_that_one(relay):
    first = order_export(relay_id=relay.pk)

    assert order_export(relay_id=relay.pk) == first
    assert RelayExport.objects.count() == 1


def test_relay_that_never_ran_has_nothing_to_export():
    with pytest.raises(ExportNotPossible):
        order_export(relay_id=RelayFactory().pk)


def test_deleted_relay_is_not_exported(relay):
    delete_relay(relay_id=relay.pk)

    with pytest.raises(UnknownRelay):
        order_export(relay_id=relay.pk)


def test_relay_is_exported_a_few_times_a_day(relay):
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        for _ in range(MAX_PER_DAY):
            cancel_export(export_id=order_export(relay_id=relay.pk).pk)
            traveller.shift(timedelta(hours=1))

        with pytest.raises(ExportQuota) as caught:
            order_export(relay_id=relay.pk)
        assert caught.value.retry_after == (24 - MAX_PER_DAY) * 3600

        traveller.shift(caught.value.retry_after)
        assert order_export(relay_id=relay.pk).state == State.WAITING


def test_canceled_export_closes_the_window_and_keeps_nothing(relay):
    Relay.objects.filter(pk=relay.pk).update(status="inactive")
    export = RelayExportFactory(relay=relay, window_host="x1.relays.example")
    RelayExportPart.objects.create(export=export, number=0, data=b"x")
    assert list(RelayExport.objects.with_open_window()) == [export]
    before = RelaySync.objects.get().version

    cancel_export(export_id=export.pk)
    cancel_export(export_id=export.pk)

    export.refresh_from_db()
    assert (export.state, export.window_host) == (State.FAILED, "")
    assert export.failure == "Support has ended this export."
    assert not export.parts.exists()
    # One sync, which makes the relay dark again.
    assert RelaySync.objects.get().version == before + 1


@pytest.mark.parametrize(
    ("columns", "is_open"),
    [
        ({"status": "inactive"}, True),
        ({"status": "delinquent"}, True),
        ({"status": "active"}, False),
        ({"status": "inactive", "deleted_at": timezone.now()}, False),
    ],
    ids=["off", "suspended", "on-again", "deleted"],
)
def test_window_is_open_only_for_a_relay_that_is_off(relay, columns, is_open):
    Relay.objects.filter(pk=relay.pk).update(**columns)
    export = RelayExportFactory(relay=relay, window_host="x1.relays.example")

    export.refresh_from_db()

    assert export.has_open_window is is_open
    assert RelayExport.objects.with_open_window().exists() is is_open


def test_file_expires_and_its_parts_are_deleted():
    export = DoneExportFactory(expires_at=timezone.now() + LIFETIME)
    other = DoneExportFactory(expires_at=timezone.now() + LIFETIME * 2)

    expire_exports(now=timezone.now() + LIFETIME - timedelta(seconds=1))
    assert export.parts.count() == 2
    expire_exports(now=timezone.now() + LIFETIME)

    export.refresh_from_db()
    assert export.state == State.EXPIRED
    assert not export.parts.exists()
    assert other.parts.count() == 2


def test_old_files_are_deleted_some_at_a_time_the_oldest_first(monkeypatch):
    monkeypatch.setattr(endings, "_MAX_EXPIRED", 1)
    end = timezone.now()
    newer = DoneExportFactory(expires_at=end)
    older = DoneExportFactory(expires_at=end - timedelta(hours=1))

    expire_exports(now=end)

    assert [older.parts.count(), newer.parts.count()] == [0, 2]
    expire_exports(now=end)
    assert newer.parts.count() == 0


def test_files_that_cannot_be_deleted_stop_no_export():
    export = RelayExportFactory()

    with (
        patch.object(endings, "expire_exports", side_effect=TimeoutError),
        patch.object(export_relay, "delay_many") as send,
        pytest.raises(TimeoutError),
    ):
        sweep_relay_exports()

    send.assert_called_once_with([export.pk])
