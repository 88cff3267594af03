"""A zooid that starts again, or has older configurations from a backup."""

from contextlib import contextmanager
from copy import deepcopy

import pytest

from relays.models import Relay
from relays.services import lifecycle
from relays.services.provisioning.configuration import desired, difference
from relays.services.provisioning.sync import SyncOutcome

pytestmark = pytest.mark.django_db

#: Seconds after which a probe is later than the reload of any write.
LATER = 120.0
IN_SYNC, WAITING = SyncOutcome.IN_SYNC, SyncOutcome.WAITING


@contextmanager
def starting(zooid):
    """zooid listens before it has read its configurations: all relays are a 404."""
    zooid.fault("body", place="relays", status=404, body="Not Found\n")
    yield
    zooid.clear_faults()


def test_relay_that_zooid_has_not_loaded_yet_is_not_written(provisioning):
    relay = provisioning.served_relay()

    with starting(provisioning.zooid):
        provisioning.probe(relay, after=LATER)
        assert provisioning.sync(relay, after=LATER) == WAITING

    assert provisioning.sync(relay, after=LATER + 20) == IN_SYNC
    assert provisioning.methods == []


def test_relay_with_an_older_configuration_gets_the_present_one_by_one_write(
    provisioning,
):
    relay = provisioning.served_relay(subdomain="old", groups_enabled=True)
    backup = deepcopy(provisioning.config(relay))
    lifecycle.update_relay(relay_id=relay.pk, subdomain="new", groups_enabled=False)
    provisioning.sync(relay)
    provisioning.zooid.requests.clear()
    provisioning.zooid.edit(relay.pk, backup)

    provisioning.probe(relay, after=LATER)

    assert provisioning.settle(relay, after=LATER) == IN_SYNC
    assert provisioning.methods == ["PATCH"]
    relay.refresh_from_db()
    wanted = desired(relay)
    assert wanted
    assert difference(wanted, provisioning.config(relay)).keys() == {"secret"}


def test_relay_that_caravel_has_restored_under_its_old_name_is_moved_back(provisioning):
    relay = provisioning.served_relay(subdomain="old")
    before = provisioning.row(relay)
    lifecycle.update_relay(relay_id=relay.pk, subdomain="new")
    provisioning.sync(relay)
    Relay.objects.filter(pk=relay.pk).update(subdomain="old")
    before.save()

    provisioning.probe(relay, after=LATER)

    assert provisioning.settle(relay, after=LATER) == IN_SYNC
    assert provisioning.document(relay)


def test_words_lost_in_an_edit_before_the_reload_are_sent_once_more(
    provisioning, monkeypatch
):
    relay = provisioning.served_relay(name="Old")
    provisioning.zooid.reload_delay = 3600
    backup = deepcopy(provisioning.config(relay))
    lifecycle.update_relay(relay_id=relay.pk, name="New", groups_enabled=False)
    with monkeypatch.context() as patch:
        patch.setattr("relays.services.provisioning.sync.pause", lambda seconds: None)
        assert provisioning.sync(relay) == WAITING
    # zooid writes the configuration as it was when the relay was built.
    backup["info"]["description"] = "By the owner"
    provisioning.zooid.edit(relay.pk, backup)
    provisioning.zooid.reload()

    assert provisioning.settle(relay, after=LATER) == IN_SYNC

    config = provisioning.config(relay)
    assert config["info"]["name"] == "New"
    assert config["info"]["description"] == "By the owner"
    assert config["groups"]["enabled"] is False
    assert provisioning.methods == ["PATCH", "PATCH"]
    relay.refresh_from_db()
    assert (relay.name, relay.description) == ("New", "By the owner")
