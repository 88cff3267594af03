"""Admins and moderators of relays, and features that the operator must set up."""

import pytest

from caravel.core.exceptions import CaravelError
from caravel.nostr import generate_secret_key, npub, pubkey_of
from relays.exceptions import FeatureUnavailable, InvalidRole
from relays.models import Plan, Relay
from relays.services import lifecycle
from relays.services.roles import MAX_KEYS
from relays.tests.factories import RelayFactory
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

ANN, BEN, EVE = (pubkey_of(digit * 64) for digit in "123")
#: 64 hex digits that are not the x coordinate of a point on the curve.
NO_KEY = "f" * 64


def test_roles_of_a_new_relay_are_stored_in_hex():
    lifecycle.create_relay(
        tenant_id=TenantFactory().pk,
        subdomain="nest",
        plan_id="basic",
        admins=[npub(ANN), BEN.upper()],
        moderators=[f" {EVE} "],
        members_can_invite=True,
    )

    relay = Relay.objects.get()
    assert (relay.admins, relay.moderators) == ([ANN, BEN], [EVE])
    assert relay.members_can_invite


def test_change_of_a_role_is_a_change_that_zooid_does_not_have():
    relay = RelayFactory(synced=True, moderators=[ANN])

    lifecycle.update_relay(relay_id=relay.pk, admins=[ANN], moderators=[])

    relay.refresh_from_db()
    assert (relay.admins, relay.moderators, relay.synced) == ([ANN], [], False)


@pytest.mark.parametrize(
    "fields",
    [
        {"admins": [ANN[:-1]]},
        {"admins": [NO_KEY]},
        {"admins": [npub(ANN)[:-1] + "q"]},
        {"admins": [""]},
        {"admins": [None]},
        {"admins": [7]},
        {"admins": [[ANN]]},
        {"admins": ANN},
        {"admins": None},
        {"moderators": {"0": ANN}},
        {"admins": [ANN, npub(ANN)]},
        {"admins": [ANN], "moderators": [ANN]},
        {"moderators": [BEN]},
    ],
    ids=str,
)
def test_invalid_role_is_refused_and_nothing_is_changed(fields):
    relay = RelayFactory(admins=[BEN])

    with pytest.raises(InvalidRole):
        lifecycle.update_relay(relay_id=relay.pk, name="New", **fields)

    relay.refresh_from_db()
    assert (relay.admins, relay.moderators, relay.name) == ([BEN], [], "")


@pytest.mark.parametrize("role", ["admins", "moderators"])
def test_owner_gets_no_other_role(role):
    relay = RelayFactory()

    with pytest.raises(InvalidRole):
        lifecycle.update_relay(relay_id=relay.pk, **{role: [npub(relay.tenant_id)]})


@pytest.mark.parametrize("role", ["admins", "moderators"])
def test_role_has_at_most_twenty_keys(role):
    relay = RelayFactory()
    keys = [pubkey_of(f"{number:064x}") for number in range(1, MAX_KEYS + 2)]

    with pytest.raises(InvalidRole):
        lifecycle.update_relay(relay_id=relay.pk, **{role: keys})
    lifecycle.update_relay(relay_id=relay.pk, **{role: keys[:MAX_KEYS]})

    relay.refresh_from_db()
    assert getattr(relay, role) == keys[:MAX_KEYS]


def test_error_does_not_repeat_a_secret_key_pasted_by_mistake():
    key = "nsec1" + generate_secret_key()

    with pytest.raises(InvalidRole) as caught:
        lifecycle.update_relay(relay_id=RelayFactory().pk, admins=[key])

    assert key not in str(caught.value)


# --- voice rooms, which need a server of the operator


def growth_relay(**fields):
    return RelayFactory(plan=Plan.objects.get(pk="growth"), **fields)


def test_voice_rooms_are_not_switched_on_without_a_server(settings):
    settings.LIVEKIT_URL = ""
    relay = growth_relay()

    with pytest.raises(FeatureUnavailable):
        lifecycle.update_relay(relay_id=relay.pk, livekit_enabled=True)
    with pytest.raises(FeatureUnavailable):
        lifecycle.create_relay(
            tenant_id=TenantFactory().pk,
            subdomain="nest",
            plan_id="growth",
            livekit_enabled=True,
        )

    relay.refresh_from_db()
    assert not relay.livekit_enabled
    assert Relay.objects.count() == 1


def test_relay_with_voice_rooms_is_edited_after_their_server_was_removed(settings):
    settings.LIVEKIT_URL = ""
    relay = growth_relay(livekit_enabled=True)

    lifecycle.update_relay(relay_id=relay.pk, name="New", livekit_enabled=True)
    lifecycle.update_relay(relay_id=relay.pk, livekit_enabled=False)

    relay.refresh_from_db()
    assert (relay.name, relay.livekit_enabled) == ("New", False)


def test_value_that_is_no_switch_is_invalid_with_and_without_a_server(settings):
    relay = growth_relay()

    for settings.LIVEKIT_URL in ("", "wss://livekit.example"):
        with pytest.raises(CaravelError) as caught:
            lifecycle.update_relay(relay_id=relay.pk, livekit_enabled="yes")
        assert caught.value.code == "livekit-enabled-invalid"
