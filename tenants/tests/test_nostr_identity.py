"""Publishing of the robot's profile and relay lists."""

import json
from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import time_machine

from caravel.nostr import pubkey_of
from tenants import signals
from tenants.exceptions import IdentityNotPublished
from tenants.services.nostr_identity import publish_identity
from tenants.tasks import publish_identity as task

pytestmark = pytest.mark.usefixtures("indexer", "outbox")


@pytest.fixture(autouse=True)
def profile_settings(settings):
    settings.ROBOT_NAME = "Caravel of Ann"
    settings.ROBOT_DESCRIPTION = "Bills & reminders"
    settings.ROBOT_PICTURE = ""


def stored(relay, kind):
    (event,) = relay.stored(kind)
    return event


def test_profile_and_relay_lists_are_published_to_indexer_and_outbox(
    indexer, outbox, settings
):
    settings.ROBOT_MESSAGING_RELAYS = ["wss://dm.example"]

    publish_identity()

    for relay in (indexer, outbox):
        profile = stored(relay, 0)
        assert profile.pubkey == pubkey_of(settings.ROBOT_SECRET)
        assert json.loads(profile.content) == {
            "name": "Caravel of Ann",
            "about": "Bills & reminders",
            "bot": True,
        }
        assert stored(relay, 10002).tags == (("r", outbox.url, "write"),)
        assert stored(relay, 10050).tags == (("relay", "wss://dm.example"),)


def test_changed_profile_replaces_previous_one(indexer, settings):
    publish_identity()
    settings.ROBOT_NAME = "Another"

    with time_machine.travel(timedelta(days=1), tick=True):
        publish_identity()

    assert json.loads(stored(indexer, 0).content)["name"] == "Another"


def test_publishing_succeeds_if_one_relay_accepts(indexer, outbox):
    indexer.go_offline()

    publish_identity()

    assert stored(outbox, 0)


def test_error_names_kind_that_no_relay_accepted_and_others_are_published(
    indexer, outbox
):
    for relay in (indexer, outbox):
        relay.fault("reject", kinds={0})

    with pytest.raises(IdentityNotPublished, match="No relay accepted kind 0"):
        publish_identity()

    assert stored(outbox, 10002) and stored(outbox, 10050)


def consumer(*queues):
    queue_objects = [SimpleNamespace(name=queue) for queue in queues]
    return SimpleNamespace(task_consumer=SimpleNamespace(queues=queue_objects))


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_only_worker_of_nostr_queue_publishes_identity_at_start():
    with patch.object(task, "apply_async") as enqueue:
        signals.publish_identity_at_start(sender=consumer("default", "stripe"))
        assert not enqueue.called
        signals.publish_identity_at_start(sender=consumer("lightning", "nostr"))

    enqueue.assert_called_once()
