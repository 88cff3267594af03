"""Admins and moderators of relays over the API."""

import pytest

from caravel.nostr import npub, pubkey_of
from relays.models import Relay
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db

EVE, MALLORY = (pubkey_of(digit * 64) for digit in "12")


@pytest.fixture
def path(tenant) -> str:
    """URL of Ann's relay."""
    return f"/api/relays/{RelayFactory(tenant=tenant).pk}"


def test_roles_are_taken_as_npub_or_hex_and_returned_in_hex(ann, path):
    body = {"admins": [npub(EVE)], "moderators": [MALLORY], "members_can_invite": True}

    changed = ann.patch(path, body)

    assert changed.data["admins"] == [EVE]
    assert changed.data["moderators"] == [MALLORY]
    assert changed.data["members_can_invite"] is True
    assert ann.get(path).data == changed.data


def test_relay_is_created_with_roles(ann, priced_plans):
    body = {"subdomain": "nest", "plan": "free", "admins": [npub(EVE)]}

    created = ann.post("/api/relays", body)

    assert (created.data["admins"], created.data["moderators"]) == ([EVE], [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"admins": ["x"]}, "role-invalid"),
        ({"admins": [EVE, EVE]}, "role-invalid"),
        ({"admins": [EVE] * 21}, "role-invalid"),
        ({"admins": "x"}, "admins-invalid"),
        ({"admins": None}, "admins-invalid"),
        ({"admins": [EVE, "a\0"]}, "admins-invalid"),
        ({"moderators": [True]}, "moderators-invalid"),
        ({"members_can_invite": "perhaps"}, "members-can-invite-invalid"),
    ],
    ids=str,
)
def test_invalid_roles_are_refused(ann, path, body, code):
    refusal = ann.patch(path, body)

    assert refusal.error == (422, code)
    # A message for people, also for an error inside of a list.
    assert "ErrorDetail" not in refusal.body["error"]
    assert Relay.objects.get().admins == []


def test_voice_rooms_without_a_server_are_refused(ann, path, settings, priced_plans):
    settings.LIVEKIT_URL = ""
    body = {"plan": "growth", "livekit_enabled": True}

    assert ann.patch(path, body).error == (409, "feature-unavailable")
    assert ann.get(path).data["plan"] == "basic"
