"""Syncs with a zooid that is away, slow, lossy, or has something else."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from caravel.core.db.leases import DURATION
from relays.clients.zooid import Zooid, client, request
from relays.models import Plan, Relay, RelaySync
from relays.services import lifecycle
from relays.services.provisioning import writes
from relays.services.provisioning.queue import mark_stale, sync_again
from relays.services.provisioning.state import RELOAD_TIME
from relays.services.provisioning.sync import SyncOutcome
from relays.tasks import sweep_relay_syncs, sync_relay
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db

#: Seconds after which the first retry is due.
RETRY = 31.0
FAILED, IN_SYNC = SyncOutcome.FAILED, SyncOutcome.IN_SYNC


class Killed(BaseException):
    """The end of a worker: nothing after it runs."""


@pytest.fixture
def kill(monkeypatch):
    """Kill the worker after the answer to one write, before it is stored."""

    def kill_after(method):
        call = getattr(Zooid, method)

        def call_and_die(self, *args):
            monkeypatch.setattr(Zooid, method, call)
            call(self, *args)
            raise Killed

        monkeypatch.setattr(Zooid, method, call_and_die)

    return kill_after


def state_of(provisioning, relay):
    relay.refresh_from_db()
    row = provisioning.row(relay)
    return relay.synced, row.failures, row.last_error_code


def test_zooid_that_is_away_is_asked_again(provisioning, settings):
    relay, url = RelayFactory(), settings.ZOOID_API_URL
    settings.ZOOID_API_URL = "http://127.0.0.1:9"

    assert provisioning.sync(relay) == FAILED
    assert provisioning.sync(relay, after=29) == SyncOutcome.NOT_DUE

    assert state_of(provisioning, relay) == (False, 1, "zooid-unavailable")
    assert relay.sync_error == "Our server has not taken the present configuration yet."
    settings.ZOOID_API_URL = url
    assert provisioning.sync(relay, after=RETRY) == IN_SYNC
    assert state_of(provisioning, relay) == (True, 0, "")
    assert relay.sync_error == ""
    assert provisioning.methods == ["POST"]
    expected = ["fail_relay_sync", "complete_relay_sync"]
    assert provisioning.activities(relay) == expected


def test_repeated_failure_is_logged_once_per_code_and_support_learns_of_it(
    provisioning, caplog
):
    relay, now = RelayFactory(), timezone.now()
    for hour in range(7):
        code = 500 if hour < 6 else 403
        provisioning.zooid.clear_faults()
        provisioning.zooid.fault("error", status=code)
        with time_machine.travel(now + timedelta(hours=hour)):
            assert provisioning.sync(relay) == FAILED

    assert provisioning.activities(relay) == ["fail_relay_sync"] * 2
    row = provisioning.row(relay)
    assert row.failures == 7
    assert "API_WHITELIST" in row.last_error
    assert row.next_attempt_at > now + timedelta(hours=6, minutes=59)
    alerts = [each for each in caplog.messages if "relay_sync_stuck" in each]
    assert len(alerts) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502])
def test_error_of_zooid_is_recorded_and_the_relay_served_later(provisioning, status):
    relay = RelayFactory()
    provisioning.zooid.fault("error", status=status)

    assert provisioning.sync(relay) == FAILED

    assert state_of(provisioning, relay)[0] is False
    provisioning.zooid.clear_faults()
    assert provisioning.sync(relay, after=RETRY) == IN_SYNC
    assert provisioning.zooid.reloads(relay.pk) == 1


def test_zooid_that_is_slow_has_done_it(provisioning, monkeypatch):
    monkeypatch.setattr(request, "TIMEOUT", 0.1)
    relay = RelayFactory()
    provisioning.zooid.fault("slow", when="after", seconds=60, times=1)

    assert provisioning.sync(relay) == FAILED

    assert state_of(provisioning, relay)[2] == "zooid-outcome-unknown"
    provisioning.zooid.clear_faults()
    assert provisioning.sync(relay, after=RETRY) == IN_SYNC
    assert provisioning.zooid.reloads(relay.pk) == 1


@pytest.mark.parametrize("kind", ["reset", "html", "garbage", "error"])
def test_lost_answer_to_a_creation_is_followed_by_no_second_one(provisioning, kind):
    relay = RelayFactory()
    provisioning.zooid.fault(kind, when="after", times=1)
    assert provisioning.sync(relay) == FAILED
    # Until then nobody knows under which name it is, if at all.
    lifecycle.update_relay(relay_id=relay.pk, name="New", subdomain="moved")

    assert provisioning.sync(relay, after=RETRY) == IN_SYNC

    assert provisioning.methods == ["POST", "POST", "PATCH"]
    assert provisioning.zooid.reloads(relay.pk) == 2
    document = provisioning.document(relay)
    assert document
    assert document.name == "New"


def test_creation_that_was_lost_before_zooid_read_it_is_repeated(provisioning):
    relay = RelayFactory()
    provisioning.zooid.fault("reset", when="before", times=1)
    provisioning.sync(relay)

    assert provisioning.sync(relay, after=RETRY) == IN_SYNC

    assert provisioning.zooid.reloads(relay.pk) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "change",
    [
        lambda pk: lifecycle.update_relay(relay_id=pk, name="New"),
        lambda pk: lifecycle.mark_relay_delinquent(relay_id=pk),
        lambda pk: lifecycle.update_relay(relay_id=pk, subdomain="moved"),
    ],
    ids=["name", "off", "host"],
)
def test_lost_answer_to_a_visible_patch_needs_no_second_one(provisioning, when, change):
    relay = provisioning.served_relay()
    change(relay.pk)
    provisioning.zooid.fault("reset", when=when, times=1)
    provisioning.sync(relay)

    assert provisioning.sync(relay, after=RETRY) == IN_SYNC

    assert provisioning.zooid.reloads(relay.pk) == 2
    writes_made = ["PATCH", "PATCH"] if when == "before" else ["PATCH"]
    assert provisioning.methods == writes_made


def test_lost_answer_to_an_invisible_patch_is_sent_again(provisioning):
    relay = provisioning.served_relay()
    lifecycle.update_relay(relay_id=relay.pk, groups_enabled=False)
    provisioning.zooid.fault("reset", when="before", times=1)
    provisioning.sync(relay)
    # Reverted meanwhile: nobody knows what zooid has.
    lifecycle.update_relay(relay_id=relay.pk, groups_enabled=True)

    assert provisioning.sync(relay, after=RETRY) == IN_SYNC

    assert provisioning.methods == ["PATCH", "PATCH"]
    assert provisioning.config(relay)["groups"]["enabled"] is True


def test_edit_of_the_owner_after_a_lost_answer_stays(provisioning):
    relay = provisioning.served_relay(name="Old")
    lifecycle.update_relay(relay_id=relay.pk, name="New", groups_enabled=False)
    provisioning.zooid.fault("reset", when="before", times=1)
    provisioning.sync(relay)
    provisioning.zooid.edit(relay.pk, {"info": {"name": "Newest"}})

    assert provisioning.sync(relay, after=RETRY) == IN_SYNC

    relay.refresh_from_db()
    assert relay.name == "Newest"
    config = provisioning.config(relay)
    assert (config["info"]["name"], config["groups"]["enabled"]) == ("Newest", False)


@pytest.mark.parametrize("when", ["before", "after"])
def test_lost_answer_to_a_deletion(provisioning, when):
    relay = provisioning.served_relay()
    lifecycle.delete_relay(relay_id=relay.pk)
    provisioning.zooid.fault("reset", when=when, times=1)
    provisioning.sync(relay)

    assert provisioning.sync(relay, after=RETRY) == IN_SYNC

    assert provisioning.zooid.relays == {}


@pytest.mark.parametrize("method", ["create_relay", "patch_relay", "delete_relay"])
def test_worker_killed_between_the_answer_and_its_record(provisioning, kill, method):
    if method == "create_relay":
        relay = RelayFactory()
    else:
        relay = provisioning.served_relay()
        lifecycle.update_relay(relay_id=relay.pk, name="New")
    if method == "delete_relay":
        lifecycle.delete_relay(relay_id=relay.pk)
    before = provisioning.zooid.reloads(relay.pk)
    kill(method)
    with pytest.raises(Killed):
        provisioning.sync(relay)

    assert provisioning.sync(relay) == SyncOutcome.NOT_DUE  # Its lease lives on.
    assert provisioning.sync(relay, after=DURATION.total_seconds()) == IN_SYNC

    assert provisioning.zooid.reloads(relay.pk) == before + 1
    assert str(relay.pk) in provisioning.zooid.relays or method == "delete_relay"


def test_sweep_finds_the_relay_of_a_killed_worker(provisioning, kill, monkeypatch):
    relay = RelayFactory()
    kill("create_relay")
    with pytest.raises(Killed):
        provisioning.sync(relay)
    sent: list[str] = []
    monkeypatch.setattr(sync_relay, "delay_many", sent.extend)

    with time_machine.travel(timezone.now() + DURATION):
        sweep_relay_syncs()

    assert sent == [str(relay.pk)]


def test_worker_that_lost_its_lease_records_nothing(provisioning, monkeypatch):
    relay = RelayFactory()
    create = Zooid.create_relay

    def lose_lease_and_create(self, *args):
        RelaySync.objects.update(lease_token=None)
        create(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Zooid, "create_relay", lose_lease_and_create)
        assert provisioning.sync(relay) == SyncOutcome.NOT_DUE

    row = provisioning.row(relay)
    assert row.is_stale
    assert not row.acknowledged
    RelaySync.objects.update(lease_until=None)
    assert provisioning.sync(relay) == IN_SYNC
    assert provisioning.zooid.reloads(relay.pk) == 1


def test_write_of_a_worker_that_lost_its_lease_is_put_right_at_once(
    provisioning, monkeypatch
):
    relay = provisioning.served_relay()
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    patch_relay = Zooid.patch_relay

    def be_overtaken_and_patch(self, *args):
        monkeypatch.setattr(Zooid, "patch_relay", patch_relay)
        lifecycle.reactivate_relay(relay_id=relay.pk)
        assert provisioning.sync(relay, after=61) == IN_SYNC
        patch_relay(self, *args)
        provisioning.zooid.reload()

    monkeypatch.setattr(Zooid, "patch_relay", be_overtaken_and_patch)
    assert provisioning.sync(relay) == SyncOutcome.NOT_DUE
    assert provisioning.document(relay) is None

    assert provisioning.row(relay).is_stale
    assert provisioning.settle(relay, after=300) == IN_SYNC
    assert provisioning.document(relay)


def test_unexpected_error_is_recorded_and_raised(provisioning, monkeypatch):
    relay = RelayFactory()

    def fail(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(client.Zooid, "create_relay", fail)

    with pytest.raises(ZeroDivisionError):
        provisioning.sync(relay)
    assert state_of(provisioning, relay)[1:] == (1, "ZeroDivisionError")


def test_relay_that_exists_there_already_is_patched_except_for_its_words(provisioning):
    """As after the database was restored: the owner's edits there are newer."""
    relay = provisioning.served_relay(name="Old")
    provisioning.zooid.edit(relay.pk, {"info": {"name": "Newer"}})
    RelaySync.objects.update(acknowledged="", digest="", host="", words_seen={})
    lifecycle.update_relay(relay_id=relay.pk, groups_enabled=False)

    assert provisioning.sync(relay) == IN_SYNC

    assert provisioning.methods == ["POST", "PATCH"]
    config = provisioning.config(relay)
    assert config["groups"]["enabled"] is False
    assert config["info"]["name"] == "Newer"
    assert config["secret"] == relay.secret.reveal()
    relay.refresh_from_db()
    assert relay.name == "Newer"


def test_lost_patch_of_a_relay_that_was_served_before_is_sent_again(provisioning):
    relay = provisioning.served_relay()
    RelaySync.objects.update(acknowledged="", digest="", host="", words_seen={})
    lifecycle.update_relay(relay_id=relay.pk, groups_enabled=False)
    provisioning.zooid.fault("reset", method="PATCH", when="before", times=1)
    assert provisioning.sync(relay) == FAILED

    assert provisioning.sync(relay, after=RETRY) == IN_SYNC

    assert provisioning.methods == ["POST", "PATCH", "PATCH"]
    assert provisioning.config(relay)["groups"]["enabled"] is False


def test_relay_that_somebody_deleted_at_zooid_is_created_again(provisioning):
    relay = provisioning.served_relay()
    provisioning.zooid.remove(relay.pk)
    lifecycle.update_relay(relay_id=relay.pk, name="New")

    assert provisioning.sync(relay) == IN_SYNC

    assert provisioning.methods == ["PATCH", "POST"]
    assert provisioning.config(relay)["secret"] == relay.secret.reveal()


def test_relay_with_another_secret_key_is_reported_and_not_served_as_ours(provisioning):
    relay = RelayFactory()
    config = {
        "host": f"{relay.subdomain}.relays.localhost:12114",
        "schema": "somebodys",
        "secret": "7" * 64,
        "info": {"pubkey": relay.tenant_id},
    }
    provisioning.zooid.edit(relay.pk, config)

    provisioning.sync(relay)
    outcome = provisioning.settle(relay, after=RELOAD_TIME.total_seconds() + 1)

    assert outcome == FAILED
    assert state_of(provisioning, relay)[2] == "relay-is-another"
    assert relay.first_served_at is None
    after = provisioning.config(relay)
    # Its events are in the tables of its schema.
    assert (after["secret"], after["schema"]) == ("7" * 64, "somebodys")


def test_invalid_relay_fails_alone_and_is_never_sent(provisioning):
    broken, other = RelayFactory(admins=["nobody"]), RelayFactory()

    assert provisioning.sync(broken) == FAILED
    assert provisioning.sync(other) == IN_SYNC

    assert state_of(provisioning, broken)[2] == "relay-misconfigured"
    assert broken.sync_error == "Our server cannot take this configuration."
    assert [*provisioning.zooid.relays] == [str(other.pk)]


def test_reload_that_takes_some_time_is_waited_for(provisioning, monkeypatch):
    monkeypatch.setattr("relays.services.provisioning.sync.pause", lambda seconds: None)
    provisioning.zooid.reload_delay = 3600
    relay = RelayFactory()

    assert provisioning.sync(relay) == SyncOutcome.WAITING
    provisioning.zooid.reload()
    assert provisioning.sync(relay) == IN_SYNC

    assert provisioning.methods == ["POST"]
    assert provisioning.row(relay).failures == 0


def settle_at(provisioning, relay, *hours) -> list[SyncOutcome]:
    return [provisioning.settle(relay, after=hour * 3600) for hour in hours]


def test_reload_that_never_comes_is_reported_and_sent_no_third_time(
    provisioning, monkeypatch
):
    monkeypatch.setattr("relays.services.provisioning.sync.pause", lambda seconds: None)
    relay = RelayFactory(status="inactive")
    provisioning.sync(relay)
    provisioning.zooid.requests.clear()
    provisioning.zooid.reload_delay = 3 * 86_400
    lifecycle.activate_relay(relay_id=relay.pk)

    assert settle_at(provisioning, relay, 0, 0.1, 1, 2, 3, 4)[-1] == FAILED

    assert provisioning.methods == ["PATCH", "PATCH"]
    assert state_of(provisioning, relay)[2] == "relay-unproven"
    assert provisioning.activities(relay)[1:] == ["fail_relay_sync"]
    provisioning.zooid.reload()
    assert provisioning.sync(relay, after=6 * 3600) == IN_SYNC


def test_suspended_relay_whose_owner_edits_all_the_time_goes_dark_at_last(
    provisioning, monkeypatch
):
    """Each edit has zooid write the file as it was before the suspension."""
    relay = provisioning.served_relay()
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    patch_relay = client.Zooid.patch_relay

    def patch_and_edit(self, relay_id, patch):
        patch_relay(self, relay_id, patch)
        provisioning.zooid.edit(relay_id, {"inactive": False})

    with monkeypatch.context() as editing:
        editing.setattr(client.Zooid, "patch_relay", patch_and_edit)
        outcomes = settle_at(provisioning, relay, 0, 1, 2, 3)
    assert outcomes == [FAILED] * 4
    assert provisioning.document(relay)

    assert settle_at(provisioning, relay, 4) == [IN_SYNC]
    assert provisioning.document(relay) is None


def test_operator_can_have_it_sent_once_more(provisioning, monkeypatch):
    relay = provisioning.served_relay()
    lifecycle.deactivate_relay(relay_id=relay.pk)
    assert provisioning.settle(relay) == IN_SYNC
    with monkeypatch.context() as patch:
        patch.setattr(Zooid, "patch_relay", lambda *args: None)
        lifecycle.activate_relay(relay_id=relay.pk)
        assert provisioning.settle(relay) == FAILED
    writes_before = provisioning.methods
    assert provisioning.settle(relay, after=6 * 3600) == FAILED
    assert provisioning.methods == writes_before

    sync_again([relay.pk])

    assert provisioning.settle(relay, after=12 * 3600) == IN_SYNC
    assert provisioning.methods == [*writes_before, "PATCH"]
    assert provisioning.document(relay)


def test_relay_that_cannot_be_looked_at_is_not_in_sync(provisioning):
    relay = RelayFactory()
    provisioning.zooid.fault("error", place="relays", status=502)

    assert provisioning.sync(relay) == FAILED

    assert state_of(provisioning, relay)[2] == "relay-unreachable"
    assert relay.first_served_at is None
    provisioning.zooid.clear_faults()
    assert provisioning.sync(relay, after=RETRY) == IN_SYNC
    assert provisioning.methods == ["POST"]


def test_all_relays_are_due_when_zooid_is_back(provisioning):
    relays = [RelayFactory() for _ in range(3)]
    provisioning.zooid.fault("error", status=503)
    for relay in relays:
        provisioning.sync(relay)
    RelaySync.objects.update(next_attempt_at=timezone.now() + timedelta(hours=1))
    provisioning.zooid.clear_faults()
    mark_stale(relay_id=relays[0].pk)

    assert provisioning.sync(relays[0]) == IN_SYNC

    assert [provisioning.sync(relay) for relay in relays[1:]] == [IN_SYNC, IN_SYNC]


def test_patch_whose_answer_was_lost_is_sent_although_nobody_can_look(
    provisioning, monkeypatch
):
    monkeypatch.setattr(writes, "_BLIND_AFTER", 2)
    relay = provisioning.served_relay()
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    provisioning.zooid.fault("reset", when="before", times=1)
    provisioning.zooid.fault("error", place="relays", status=502)

    for hour in range(3):
        provisioning.sync(relay, after=hour * 3600)

    assert provisioning.methods == ["PATCH", "PATCH"]
    assert provisioning.config(relay)["inactive"] is True


def test_plan_that_loses_a_feature_takes_it_from_its_relays(provisioning):
    plan = Plan.objects.get(pk="basic")
    plan.blossom = True
    plan.save()
    relay = provisioning.served_relay(blossom_enabled=True)
    assert provisioning.config(relay)["blossom"]["enabled"] is True
    plan.blossom = False
    plan.save()

    assert provisioning.sync(relay) == IN_SYNC

    assert provisioning.config(relay)["blossom"]["enabled"] is False
    assert Relay.objects.get(pk=relay.pk).blossom_enabled
