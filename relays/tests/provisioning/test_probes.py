"""Probes of all relays, and what follows from them."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.models import SubscriptionSync
from caravel.core.db.encrypted_text import Secret
from relays.clients.nip11 import fetch_documents
from relays.models import Relay, RelaySync
from relays.models.syncs import SERVED_PROBE_INTERVAL
from relays.services import lifecycle
from relays.services.provisioning import probes, sync
from relays.services.provisioning.probes import claim_due
from relays.services.provisioning.queue import mark_stale
from relays.services.provisioning.sync import SyncOutcome
from relays.tasks import probe_relay_batch, probe_relays
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db

#: Seconds after which a probe is later than the reload of any write.
LATER = 120.0
HOUR = 3600.0
IN_SYNC = SyncOutcome.IN_SYNC


def test_probe_of_a_relay_as_configured_only_records_the_proof(provisioning):
    relay = provisioning.served_relay()

    provisioning.probe(relay, after=LATER)

    before, after = relay.served_at, Relay.objects.get(pk=relay.pk).served_at
    assert before
    assert after
    assert after > before
    assert not provisioning.row(relay).is_stale
    assert provisioning.zooid.requests == []


def test_relay_whose_owner_keeps_it_from_being_in_sync_is_billed(
    provisioning, monkeypatch
):
    """It is switched on with a new name, and gets the old one back before any look."""
    relay = RelayFactory(name="Old", status="inactive")
    provisioning.sync(relay)
    lifecycle.update_relay(relay_id=relay.pk, name="New")
    lifecycle.activate_relay(relay_id=relay.pk)
    provisioning.zooid.reload_delay = 3600

    def edit_at_once(seconds):
        provisioning.zooid.edit(relay.pk, {"info": {"name": "Old"}})
        provisioning.zooid.reload()

    monkeypatch.setattr(sync, "pause", edit_at_once)
    assert provisioning.sync(relay) == SyncOutcome.WAITING
    assert provisioning.settle(relay, after=LATER) == SyncOutcome.FAILED
    assert provisioning.document(relay)
    assert not Relay.objects.billable().exists()

    provisioning.probe(relay, after=HOUR)

    assert Relay.objects.billable().get() == relay
    assert SubscriptionSync.objects.get().is_stale


def test_probe_of_a_dark_relay_records_the_proof(provisioning):
    relay = provisioning.served_relay()
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    provisioning.sync(relay)
    before = Relay.objects.get(pk=relay.pk)

    provisioning.probe(relay, after=LATER)

    after = Relay.objects.get(pk=relay.pk)
    assert before.dark_at
    assert after.dark_at
    assert after.dark_at > before.dark_at
    assert after.served_at == before.served_at
    assert not provisioning.row(relay).is_stale


@pytest.mark.parametrize(
    ("change", "method"),
    [
        (lambda zooid, pk: zooid.edit(pk, {"inactive": True}), "PATCH"),
        (lambda zooid, pk: zooid.remove(pk), "POST"),
        (lambda zooid, pk: zooid.edit(pk, {"info": {"pubkey": "8" * 64}}), "PATCH"),
    ],
    ids=["switched off", "removed", "other owner"],
)
def test_proven_difference_is_repaired_by_one_write(provisioning, change, method):
    relay = provisioning.served_relay()
    secret = relay.secret.reveal()
    change(provisioning.zooid, relay.pk)

    provisioning.probe(relay, after=LATER)
    assert provisioning.zooid.requests == []
    assert provisioning.settle(relay, after=LATER) == IN_SYNC

    assert provisioning.methods == [method]
    document = provisioning.document(relay)
    assert document
    assert document.pubkey == relay.tenant_id
    assert provisioning.config(relay)["secret"] == secret


def test_zooid_that_cannot_list_members_gets_a_removed_relay_again(provisioning):
    relay = provisioning.served_relay()
    provisioning.zooid.remove(relay.pk)
    provisioning.zooid.fault("error", method="GET", status=405)

    provisioning.probe(relay, after=LATER)

    assert provisioning.settle(relay, after=LATER) == IN_SYNC
    assert provisioning.methods == ["PATCH", "POST"]
    assert provisioning.document(relay)


def test_suspended_relay_that_somebody_switched_on_goes_dark_again(provisioning):
    relay = provisioning.served_relay()
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    provisioning.sync(relay)
    provisioning.zooid.edit(relay.pk, {"inactive": False})

    provisioning.probe(relay, after=LATER)
    provisioning.settle(relay, after=LATER)

    assert provisioning.document(relay) is None


def test_second_repair_follows_a_proof_of_the_first(provisioning):
    relay = provisioning.served_relay()
    for round_ in (1, 2):
        provisioning.zooid.edit(relay.pk, {"inactive": True})
        provisioning.probe(relay, after=round_ * HOUR)
        assert provisioning.settle(relay, after=round_ * HOUR) == IN_SYNC

    assert provisioning.methods == ["PATCH", "PATCH"]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "status": 502},
        {"kind": "error", "status": 404},
        {"kind": "reset"},
        {"kind": "html"},
        {"kind": "garbage"},
    ],
    ids=["502", "404 of a proxy", "reset", "html", "garbage"],
)
def test_answer_that_proves_nothing_changes_nothing(provisioning, fault):
    relay = provisioning.served_relay()
    provisioning.zooid.fault(place="relays", **fault)

    provisioning.probe(relay, after=LATER)

    after = Relay.objects.get(pk=relay.pk)
    assert (after.served_at, after.dark_at) == (relay.served_at, None)
    row = provisioning.row(relay)
    assert not row.is_stale
    assert row.probe_failures == 1
    provisioning.zooid.clear_faults()
    provisioning.probe(relay, after=LATER)
    assert provisioning.row(relay).probe_failures == 0


def test_support_learns_once_of_relays_that_nobody_reaches(provisioning, caplog):
    first, second = provisioning.served_relay(), provisioning.served_relay()
    provisioning.zooid.fault("error", place="relays", status=502)

    for round_ in range(6):
        provisioning.probe(first, second, after=round_ * LATER)

    alerts = [each for each in caplog.messages if "relays_unreachable" in each]
    assert len(alerts) == 1
    assert "2 relays have not been reached for an hour" in alerts[0]
    assert "The relay answered 502." in alerts[0]


def test_changed_setting_reaches_the_relays_that_depend_on_it(provisioning, settings):
    with_rooms = provisioning.served_relay(plan_id="growth", livekit_enabled=True)
    without = provisioning.served_relay()
    settings.LIVEKIT_API_SECRET = "another-livekit-secret"

    provisioning.probe(with_rooms, without, after=LATER)

    assert provisioning.row(with_rooms).is_stale
    assert not provisioning.row(without).is_stale
    assert provisioning.sync(with_rooms, after=LATER) == IN_SYNC
    livekit = provisioning.config(with_rooms)["livekit"]
    assert livekit["api_secret"] == "another-livekit-secret"
    provisioning.probe(with_rooms, after=2 * LATER)
    assert not provisioning.row(with_rooms).is_stale


def test_other_secret_key_of_the_server_sends_nothing(provisioning, settings):
    """The digest changes with it, the configuration does not."""
    relay = provisioning.served_relay()
    settings.SECRET_KEY = "another"

    provisioning.probe(relay, after=LATER)
    provisioning.sync(relay, after=LATER)
    provisioning.probe(relay, after=2 * LATER)

    assert not provisioning.row(relay).is_stale
    assert provisioning.methods == []


def test_edit_of_the_owner_is_adopted_and_not_sent_back(provisioning):
    relay = provisioning.served_relay(name="Ours")
    provisioning.zooid.edit(relay.pk, {"info": {"name": "Theirs"}})

    for round_ in (1, 2, 3):
        provisioning.probe(relay, after=round_ * LATER)
        provisioning.sync(relay, after=round_ * LATER)

    relay.refresh_from_db()
    assert (relay.name, relay.synced) == ("Theirs", True)
    assert provisioning.methods == []
    assert not provisioning.row(relay).is_stale


def test_document_from_before_a_write_proves_nothing(provisioning, monkeypatch):
    relay = provisioning.served_relay(name="Old")
    fetch = fetch_documents

    def fetch_and_be_overtaken(hosts):
        documents = fetch(hosts)
        lifecycle.update_relay(relay_id=relay.pk, name="New")
        with time_machine.travel(timezone.now() + timedelta(seconds=LATER)):
            provisioning.sync(relay)
        return documents

    monkeypatch.setattr(probes, "fetch_documents", fetch_and_be_overtaken)

    provisioning.probe(relay)

    relay.refresh_from_db()
    assert relay.name == "New"
    assert not provisioning.row(relay).is_stale


@pytest.mark.parametrize(
    ("model", "column"), [(Relay, "secret"), (RelaySync, "acknowledged")]
)
def test_relay_that_cannot_be_decrypted_does_not_stop_the_others(
    provisioning, caplog, model, column
):
    broken, other = provisioning.served_relay(), provisioning.served_relay(name="Old")
    model.objects.filter(pk=broken.pk).update(**{column: Secret("unreadable")})
    for relay in (broken, other):
        provisioning.zooid.edit(relay.pk, {"info": {"name": "New"}})

    provisioning.probe(broken, other, after=LATER)

    assert Relay.objects.get(pk=broken.pk).served_at == broken.served_at
    assert Relay.objects.get(pk=other.pk).name == "New"
    assert any("relay_unreadable" in each for each in caplog.messages)


def test_relay_at_the_private_name_of_an_export_is_not_seen_running(provisioning):
    relay = provisioning.served_relay()
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    provisioning.sync(relay)
    relay.exports.create(window_host="x0123.relays.localhost:12114")
    mark_stale(relay_id=relay.pk)
    provisioning.sync(relay)
    before = Relay.objects.get(pk=relay.pk)

    provisioning.probe(relay, after=LATER)

    after = Relay.objects.get(pk=relay.pk)
    assert (after.served_at, after.dark_at) == (before.served_at, before.dark_at)
    assert not provisioning.row(relay).is_stale


def test_due_probes_are_claimed_once_in_batches_and_dark_relays_less_often(
    provisioning, monkeypatch
):
    monkeypatch.setattr(probes, "BATCH", 2)
    served = [provisioning.served_relay() for _ in range(3)]
    dark = provisioning.served_relay(status="inactive")
    RelayFactory()  # Not at zooid yet.
    now = timezone.now()

    batches = claim_due(now=now)

    assert [len(batch) for batch in batches] == [2, 2]
    assert claim_due(now=now + timedelta(minutes=14)) == []
    later = claim_due(now=now + timedelta(minutes=15))
    assert {pk for batch in later for pk in batch} == {relay.pk for relay in served}
    claim_due(now=now + timedelta(minutes=46))
    assert claim_due(now=now + timedelta(minutes=60)) == [[dark.pk]]


def test_tasks_probe_what_is_due(provisioning, monkeypatch):
    relay = provisioning.served_relay()
    sent: list[tuple[list[str]]] = []

    def record(args, *, expires):
        # Due again by then: messages of a server that hangs do not pile up.
        assert expires == SERVED_PROBE_INTERVAL.total_seconds()
        sent.append(args)

    monkeypatch.setattr(probe_relay_batch, "apply_async", record)

    probe_relays()

    assert sent == [([str(relay.pk)],)]
    probe_relay_batch(*sent[0])
    assert Relay.objects.get(pk=relay.pk).served_at > relay.served_at
    assert RelaySync.objects.get().probed_at
