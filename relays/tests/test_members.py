from uuid import uuid4

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from relays.exceptions import UnknownRelay, ZooidRefused, ZooidUnavailable
from relays.models import Relay
from relays.services.members import list_members
from relays.tests.factories import RelayFactory

PUBKEYS = sorted(pubkey_of(generate_secret_key()) for _ in range(3))

pytestmark = pytest.mark.django_db


def test_members_are_sorted_without_duplicates(zooid):
    relay, other = RelayFactory(), RelayFactory()
    zooid.set_members(relay.pk, [*reversed(PUBKEYS), *PUBKEYS])
    zooid.set_members(other.pk, PUBKEYS[:1])

    own, others = zooid.own_pubkey(relay.pk), zooid.own_pubkey(other.pk)
    assert list_members(relay_id=relay.pk) == sorted([*PUBKEYS, own])
    assert list_members(relay_id=other.pk) == sorted([PUBKEYS[0], others])


@pytest.mark.parametrize("status", Relay.Status.values)
def test_relay_unknown_to_zooid_has_no_members(zooid, status):
    assert list_members(relay_id=RelayFactory(status=status).pk) == []


def test_unknown_relay_is_not_requested_from_zooid(zooid):
    zooid.set_members(unknown := uuid4(), PUBKEYS)

    with pytest.raises(UnknownRelay):
        list_members(relay_id=unknown)
    assert zooid.requests == []


@pytest.mark.parametrize(
    ("kind", "error"), [("error", ZooidUnavailable), ("garbage", ZooidRefused)]
)
def test_error_of_zooid_is_raised(zooid, kind, error):
    relay = RelayFactory()
    zooid.set_members(relay.pk, PUBKEYS)
    zooid.fault(kind)

    with pytest.raises(error):
        list_members(relay_id=relay.pk)
