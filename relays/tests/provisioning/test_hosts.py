"""Names that others have, or that move between relays."""

import pytest

from relays.models import Relay, RelaySync
from relays.services import lifecycle
from relays.services.provisioning.configuration import public_host
from relays.services.provisioning.sync import SyncOutcome
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db

WAITING, IN_SYNC = SyncOutcome.WAITING, SyncOutcome.IN_SYNC


def swap_names(*relays):
    """Give each relay the name of the next one."""
    names = [relay.subdomain for relay in relays]
    for relay in relays:
        Relay.objects.filter(pk=relay.pk).update(subdomain=f"free-{relay.subdomain}")
    for relay, name in zip(relays, [*names[1:], names[0]], strict=True):
        lifecycle.update_relay(relay_id=relay.pk, subdomain=name)


def swapped_relays(provisioning):
    """Return two relays that swap names; the first has to take another in between."""
    relays = [provisioning.served_relay(subdomain=f"r{n}") for n in range(2)]
    swap_names(*relays)
    return sorted(relays, key=lambda relay: relay.pk)


def sync_all(provisioning, relays, rounds):
    return [[provisioning.sync(relay) for relay in relays] for _ in range(rounds)]


def test_stranger_at_the_name_is_reported_and_asked_hourly(provisioning):
    relay = RelayFactory()
    stranger = {
        "host": public_host(relay),
        "schema": "strangers",
        "secret": "7" * 64,
        "info": {"pubkey": "8" * 64},
    }
    provisioning.zooid.edit("stranger", stranger)

    assert provisioning.sync(relay) == SyncOutcome.FAILED
    assert provisioning.sync(relay, after=3500) == SyncOutcome.NOT_DUE

    row = provisioning.row(relay)
    assert row.last_error_code == "zooid-host-taken"
    relay.refresh_from_db()
    assert relay.sync_error == "The name of the relay is not free at our server yet."
    assert relay.first_served_at is None
    provisioning.zooid.remove("stranger")
    assert provisioning.sync(relay, after=3601) == IN_SYNC


def test_schema_of_a_stranger_is_reported(provisioning):
    relay = RelayFactory()
    stranger = {
        "host": "other.example",
        "schema": relay.schema,
        "secret": "7" * 64,
        "info": {"pubkey": "8" * 64},
    }
    provisioning.zooid.edit("stranger", stranger)

    assert provisioning.sync(relay) == SyncOutcome.FAILED

    assert provisioning.row(relay).last_error_code == "zooid-schema-taken"


def test_name_of_a_renamed_relay_goes_to_the_next(provisioning):
    first = provisioning.served_relay(subdomain="paint")
    lifecycle.update_relay(relay_id=first.pk, subdomain="moved")
    second = RelayFactory(subdomain="paint")

    assert provisioning.sync(second) == WAITING
    assert provisioning.row(first).enqueued_at
    assert provisioning.sync(first) == IN_SYNC
    assert provisioning.sync(second) == IN_SYNC

    document = provisioning.document(second)
    assert document
    assert document.pubkey == second.tenant_id
    assert provisioning.row(second).failures == 0


def test_name_of_a_deleted_relay_goes_to_the_next(provisioning):
    first = provisioning.served_relay(subdomain="paint")
    lifecycle.delete_relay(relay_id=first.pk)
    second = RelayFactory(subdomain="paint")

    assert provisioning.sync(second) == WAITING
    assert provisioning.sync(first) == IN_SYNC
    assert provisioning.sync(second) == IN_SYNC
    first.refresh_from_db()
    assert first.dark_at


def test_name_whose_holder_cannot_be_synced_is_a_failure_with_a_pause(provisioning):
    first = provisioning.served_relay(subdomain="paint")
    lifecycle.update_relay(relay_id=first.pk, subdomain="moved", description="x")
    provisioning.zooid.fault("error", method="PATCH", status=500)
    provisioning.sync(first)
    second = RelayFactory(subdomain="paint")

    assert provisioning.sync(second) == SyncOutcome.FAILED
    assert provisioning.sync(second, after=20) == SyncOutcome.NOT_DUE

    provisioning.zooid.clear_faults()
    assert provisioning.sync(first, after=31) == IN_SYNC
    assert provisioning.sync(second, after=31) == IN_SYNC


def test_invalid_relay_that_holds_the_name_is_no_error_of_the_next(provisioning):
    first = provisioning.served_relay(subdomain="paint")
    Relay.objects.filter(pk=first.pk).update(subdomain="moved", admins=["nobody"])
    second = RelayFactory(subdomain="paint")

    assert provisioning.sync(second) == SyncOutcome.FAILED

    assert provisioning.row(second).last_error_code == "zooid-host-taken"


@pytest.mark.parametrize("count", [2, 3])
def test_relays_that_swap_names_all_get_theirs(provisioning, count):
    relays = [provisioning.served_relay(subdomain=f"r{n}") for n in range(count)]
    secrets = [provisioning.config(relay)["secret"] for relay in relays]
    swap_names(*relays)

    outcomes = sync_all(provisioning, relays, count + 2)

    assert outcomes[-1] == [SyncOutcome.NOT_DUE] * count
    for relay in relays:
        document = provisioning.document(relay)
        assert document
        assert document.pubkey == relay.tenant_id
    assert [provisioning.config(relay)["secret"] for relay in relays] == secrets
    # One of them had a private name in between.
    reloads = [provisioning.zooid.reloads(relay.pk) for relay in relays]
    assert sorted(reloads) == [2] * (count - 1) + [3]


def test_swap_whose_first_relay_cannot_be_synced_is_a_failure_with_a_pause(
    provisioning,
):
    first, second = swapped_relays(provisioning)
    path = f"/relay/{first.pk}"
    provisioning.zooid.fault("error", method="PATCH", path=path, status=400)
    assert provisioning.sync(first) == SyncOutcome.FAILED

    assert provisioning.sync(second) == SyncOutcome.FAILED
    assert provisioning.sync(second, after=20) == SyncOutcome.NOT_DUE

    provisioning.zooid.clear_faults()
    for seconds in (31, 61, 120):
        provisioning.sync(first, after=seconds)
        provisioning.sync(second, after=seconds)
    assert Relay.objects.filter(synced=True).count() == 2


def test_swap_after_a_long_outage_takes_seconds(provisioning):
    first, second = swapped_relays(provisioning)
    RelaySync.objects.update(failures=9, last_error_code="zooid-unavailable")

    outcomes = [
        provisioning.sync(relay, after=seconds)
        for seconds in (0, 5, 10)
        for relay in (second, first)
    ]

    assert outcomes == [
        *(SyncOutcome.FAILED, WAITING),
        *(SyncOutcome.NOT_DUE, SyncOutcome.FAILED),
        *(IN_SYNC, IN_SYNC),
    ]
