"""What Caravel says of itself on Nostr."""

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
def profile(settings):
    settings.ROBOT_NAME = "Caravel of Ann"
    settings.ROBOT_DESCRIPTION = "Bills & reminders"
    settings.ROBOT_PICTURE = ""


def stored(relay, kind):
    (event,) = relay.stored(kind)
    return event


def test_profile_and_lists_are_where_people_look(indexer, outbox, settings):
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


def test_a_change_takes_the_place_of_what_was_there(indexer, settings):
    publish_identity()
    settings.ROBOT_NAME = "Another"

    with time_machine.travel(timedelta(days=1), tick=True):
        publish_identity()

    assert json.loads(stored(indexer, 0).content)["name"] == "Another"


def test_one_relay_that_takes_it_is_enough(indexer, outbox):
    indexer.go_offline()

    publish_identity()

    assert stored(outbox, 0)


def test_what_no_relay_takes_is_said_and_the_rest_is_published(indexer, outbox):
    for relay in (indexer, outbox):
        relay.fault("reject", kinds={0})

    with pytest.raises(IdentityNotPublished, match="No relay took kind 0"):
        publish_identity()

    assert stored(outbox, 10002) and stored(outbox, 10050)


def consumer(*queues):
    names = [SimpleNamespace(name=queue) for queue in queues]
    return SimpleNamespace(task_consumer=SimpleNamespace(queues=names))


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_worker_of_its_queue_publishes_it_at_its_start():
    with patch.object(task, "apply_async") as enqueue:
        signals.publish_identity_at_start(sender=consumer("default", "stripe"))
        assert not enqueue.called
        signals.publish_identity_at_start(sender=consumer("lightning", "nostr"))

    enqueue.assert_called_once()
