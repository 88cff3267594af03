"""Syncs of single relays with a zooid that answers."""

import pytest
from django.utils import timezone

from caravel.nostr import pubkey_of
from relays.clients.nip11 import fetch_document
from relays.models import Relay, RelayExport
from relays.services import lifecycle
from relays.services.provisioning import sync
from relays.services.provisioning.queue import mark_stale
from relays.services.provisioning.sync import SyncOutcome
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db


def test_new_relay_is_created_and_proven_and_billed_from_then_on(provisioning):
    relay = RelayFactory(name="Ann's", description="Hello\r\nworld")
    assert not Relay.objects.billable().exists()

    assert provisioning.sync(relay) == SyncOutcome.IN_SYNC

    document = provisioning.document(relay)
    assert document
    assert (document.name, document.pubkey) == ("Ann's", relay.tenant_id)
    assert document.self_pubkey == pubkey_of(relay.secret.reveal())
    relay.refresh_from_db()
    assert relay.synced
    assert relay.first_served_at == relay.served_at
    assert relay.first_served_at
    assert [*Relay.objects.billable()] == [relay]
    assert provisioning.methods == ["POST"]
    assert provisioning.activities(relay) == ["complete_relay_sync"]


def test_second_sync_does_nothing(provisioning):
    relay = provisioning.served_relay()

    assert provisioning.sync(relay) == SyncOutcome.NOT_DUE

    assert provisioning.methods == []


def test_sync_without_a_difference_sends_nothing_and_logs_nothing(provisioning):
    relay = provisioning.served_relay()
    mark_stale(relay_id=relay.pk)

    assert provisioning.sync(relay) == SyncOutcome.IN_SYNC

    assert provisioning.methods == []
    assert provisioning.zooid.reloads(relay.pk) == 1
    assert provisioning.activities(relay) == ["complete_relay_sync"]
    relay.refresh_from_db()
    assert relay.synced


def test_only_what_differs_is_sent(provisioning):
    relay = provisioning.served_relay()
    # A complete configuration would take this back.
    there = {"policy": {"public_join": True}, "info": {"name": "Renamed there"}}
    provisioning.zooid.edit(relay.pk, there)
    lifecycle.update_relay(relay_id=relay.pk, groups_enabled=False)

    provisioning.sync(relay)

    config = provisioning.config(relay)
    assert config["groups"]["enabled"] is False
    assert config["policy"]["public_join"] is True
    assert config["info"]["name"] == "Renamed there"


def test_identity_of_the_relay_stays_whatever_changes(provisioning):
    relay = provisioning.served_relay()
    before = provisioning.config(relay)["secret"]
    for change in (
        lambda: lifecycle.update_relay(relay_id=relay.pk, name="B", subdomain="moved"),
        lambda: lifecycle.change_plan(relay_id=relay.pk, plan_id="growth"),
        lambda: lifecycle.deactivate_relay(relay_id=relay.pk),
        lambda: lifecycle.activate_relay(relay_id=relay.pk),
    ):
        change()
        assert provisioning.sync(relay) == SyncOutcome.IN_SYNC

    config = provisioning.config(relay)
    assert config["secret"] == before
    assert config["schema"] == relay.schema
    document = provisioning.document(relay)
    assert document
    assert document.self_pubkey == pubkey_of(before)


@pytest.mark.parametrize(
    ("off", "on"),
    [
        (lifecycle.mark_relay_delinquent, lifecycle.reactivate_relay),
        (lifecycle.deactivate_relay, lifecycle.activate_relay),
    ],
    ids=["suspension", "by hand"],
)
def test_relay_goes_dark_and_comes_back(provisioning, off, on):
    relay = provisioning.served_relay()
    first = relay.first_served_at

    off(relay_id=relay.pk)
    provisioning.sync(relay)
    relay.refresh_from_db()
    assert provisioning.document(relay) is None
    assert relay.dark_at
    assert relay.dark_at > first
    assert relay.synced

    on(relay_id=relay.pk)
    provisioning.sync(relay)
    relay.refresh_from_db()
    assert provisioning.document(relay)
    assert relay.served_at > relay.dark_at
    assert relay.first_served_at == first
    assert provisioning.zooid.reloads(relay.pk) == 3


def test_deleted_relay_is_deleted_at_zooid_once(provisioning):
    relay = provisioning.served_relay()
    lifecycle.delete_relay(relay_id=relay.pk)

    assert provisioning.sync(relay) == SyncOutcome.IN_SYNC
    mark_stale(relay_id=relay.pk)
    assert provisioning.sync(relay) == SyncOutcome.IN_SYNC

    assert provisioning.methods == ["DELETE"]
    assert provisioning.zooid.relays == {}
    relay.refresh_from_db()
    assert relay.dark_at
    assert provisioning.row(relay).host == ""


def test_relay_deleted_before_its_first_sync_is_never_sent(provisioning):
    relay = RelayFactory()
    lifecycle.delete_relay(relay_id=relay.pk)

    assert provisioning.sync(relay) == SyncOutcome.IN_SYNC

    assert provisioning.zooid.requests == []
    relay.refresh_from_db()
    assert relay.dark_at is None


def test_relay_that_is_off_from_the_beginning_is_not_served(provisioning):
    relay = RelayFactory(status="inactive")

    provisioning.sync(relay)

    relay.refresh_from_db()
    assert provisioning.config(relay)["inactive"] is True
    assert (relay.first_served_at, relay.synced) == (None, True)


def test_export_of_a_dark_relay_opens_a_private_name_and_closes_it(provisioning):
    relay = provisioning.served_relay()
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    provisioning.sync(relay)
    host = "x0123.relays.localhost:12114"
    export = RelayExport.objects.create(relay=relay, window_host=host)
    mark_stale(relay_id=relay.pk)

    provisioning.sync(relay)
    relay.refresh_from_db()
    assert provisioning.zooid.find(host)
    assert provisioning.document(relay) is None
    assert relay.served_at < relay.dark_at

    RelayExport.objects.filter(pk=export.pk).update(state="done")
    mark_stale(relay_id=relay.pk)
    provisioning.sync(relay)
    assert provisioning.zooid.find(host) is None
    assert provisioning.document(relay) is None


def test_change_during_the_sync_is_synced_by_the_next(provisioning, monkeypatch):
    relay = provisioning.served_relay()
    lifecycle.update_relay(relay_id=relay.pk, name="First")

    def change_and_fetch(host):
        lifecycle.update_relay(relay_id=relay.pk, name="Second")
        return fetch_document(host)

    with monkeypatch.context() as patch:
        patch.setattr(sync, "fetch_document", change_and_fetch)
        assert provisioning.sync(relay) == SyncOutcome.STALE

    relay.refresh_from_db()
    assert not relay.synced
    assert provisioning.sync(relay) == SyncOutcome.IN_SYNC
    assert provisioning.config(relay)["info"]["name"] == "Second"


def test_edit_of_the_owner_at_the_relay_stays_while_we_change_the_plan(provisioning):
    relay = provisioning.served_relay(name="Ours")
    provisioning.zooid.edit(relay.pk, {"info": {"name": "The owner's"}})
    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")

    assert provisioning.sync(relay) == SyncOutcome.IN_SYNC

    relay.refresh_from_db()
    assert relay.name == "The owner's"
    document = provisioning.document(relay)
    assert document
    assert document.name == "The owner's"
    assert provisioning.sync(relay) == SyncOutcome.NOT_DUE


def test_row_of_the_sync_holds_no_secret_key(provisioning):
    relay = provisioning.served_relay()

    row = provisioning.row(relay)

    assert relay.secret.reveal() not in row.acknowledged.reveal()
    assert row.sent.reveal() == ""
    assert row.host == f"{relay.subdomain}.relays.localhost:12114"
    assert len(row.digest) == 64
    assert row.acknowledged_at
    assert row.acknowledged_at <= timezone.now()
