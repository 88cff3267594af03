"""An hour without zooid."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from relays.models import Relay, RelaySync
from relays.services import lifecycle
from relays.services.provisioning import queue
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db


def test_every_relay_converges_by_one_write_after_an_hour_without_zooid(provisioning):
    new = RelayFactory()
    renamed, moved, suspended, deleted, unchanged = (
        provisioning.served_relay() for _ in range(5)
    )
    provisioning.zooid.fault("error", place="everywhere", status=503)
    lifecycle.update_relay(relay_id=renamed.pk, name="New")
    lifecycle.update_relay(relay_id=moved.pk, subdomain="moved")
    lifecycle.mark_relay_delinquent(relay_id=suspended.pk)
    lifecycle.delete_relay(relay_id=deleted.pk)
    start = timezone.now()

    minutes = 0
    while RelaySync.objects.stale().exists() and minutes < 130:
        if minutes == 60:
            provisioning.zooid.clear_faults()
        with time_machine.travel(start + timedelta(minutes=minutes)):
            for relay in Relay.objects.filter(sync__in=RelaySync.objects.stale()):
                provisioning.sync(relay)
        minutes += 1

    # The next retry is an hour away at most, and brings all others along.
    assert 60 < minutes <= 120
    assert not Relay.objects.filter(synced=False).exists()
    assert provisioning.document(new)
    assert provisioning.document(suspended) is None
    reloads = [
        provisioning.zooid.reloads(relay.pk)
        for relay in (new, renamed, moved, suspended, deleted, unchanged)
    ]
    assert reloads == [1, 2, 2, 2, 2, 1]


def test_end_of_an_outage_is_noticed_within_a_minute(provisioning):
    relays = [RelayFactory() for _ in range(3)]
    provisioning.zooid.fault("error", place="everywhere", status=503)
    start = timezone.now()

    for minute in range(62):
        if minute == 60:
            provisioning.zooid.clear_faults()
        with time_machine.travel(start + timedelta(minutes=minute)):
            queue.try_server_again(now=timezone.now())
            requests = len(provisioning.zooid.requests)
            for relay in relays:
                provisioning.sync(relay)
        if 40 < minute < 60:
            # Two requests at most: the write of one, or its look before that.
            assert len(provisioning.zooid.requests) - requests <= 2

    assert not Relay.objects.filter(synced=False).exists()


def test_server_is_not_tried_while_no_relay_waits_for_it(provisioning):
    provisioning.served_relay()

    assert queue.try_server_again(now=timezone.now()) is None
