import json

import pytest
from django.utils import timezone

from relays.exceptions import RelayMisconfigured
from relays.models import Plan, Relay, RelayExport
from relays.services.provisioning import configuration
from relays.services.provisioning.configuration import (
    desired,
    difference,
    digest,
    forget,
    merge,
)
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db

ADMIN, MODERATOR = "a" * 64, "b" * 64


def config_of(relay):
    config = desired(Relay.objects.get(pk=relay.pk))
    assert config
    return config


def test_configuration_has_the_keys_of_zooid_and_no_secret_key(settings):
    settings.RELAY_DOMAIN = "Relays.example:8080"
    relay = RelayFactory(
        subdomain="ann",
        name="Ann's",
        icon="https://a.example/i.png",
        description="Hello",
        admins=[ADMIN],
        moderators=[MODERATOR],
        members_can_invite=True,
        public_join=True,
    )

    assert config_of(relay) == {
        "host": "ann.relays.example:8080",
        "schema": f"r{relay.pk.hex}",
        "inactive": False,
        "info": {
            "name": "Ann's",
            "icon": "https://a.example/i.png",
            "pubkey": relay.tenant_id,
            "description": "Hello",
        },
        "policy": {"public_join": True, "strip_signatures": False},
        "groups": {"enabled": True},
        "management": {"enabled": True},
        "blossom": {"enabled": False},
        "push": {"enabled": True},
        "livekit": {"server_url": "", "api_key": "", "api_secret": ""},
        "roles": {
            "admin": {"pubkeys": [ADMIN], "can_manage": True, "can_invite": True},
            "moderator": {
                "pubkeys": [MODERATOR],
                "can_manage": False,
                "can_invite": True,
            },
            "member": {"pubkeys": [], "can_manage": False, "can_invite": True},
        },
    }


def test_schema_stays_when_the_name_changes():
    relay = RelayFactory(subdomain="before")
    schema = config_of(relay)["schema"]

    Relay.objects.update(subdomain="after")

    assert config_of(relay)["schema"] == schema


@pytest.mark.parametrize("status", ["inactive", "delinquent"])
def test_relay_that_is_off_is_inactive(status):
    assert config_of(RelayFactory(status=status))["inactive"] is True


def test_deleted_relay_has_no_configuration():
    relay = RelayFactory(status="inactive", deleted_at=timezone.now())

    assert desired(relay) is None


def test_relay_that_is_exported_while_off_is_served_under_the_private_name():
    relay = RelayFactory(status="delinquent")
    export = RelayExport.objects.create(relay=relay, window_host="x1.relays.example")

    open_window = config_of(relay)
    export.state = RelayExport.State.DONE
    export.save()

    assert open_window["host"] == "x1.relays.example"
    assert open_window["inactive"] is False
    assert config_of(relay)["inactive"] is True


@pytest.mark.parametrize("included", [True, False])
def test_feature_needs_the_switch_and_the_plan(included, settings):
    Plan.objects.filter(pk="basic").update(blossom=included, livekit=included)
    relay = RelayFactory(blossom_enabled=True, livekit_enabled=True)

    config = config_of(relay)

    assert config["blossom"]["enabled"] is included
    expected = (settings.LIVEKIT_URL, settings.LIVEKIT_API_SECRET)
    assert expected == ("ws://127.0.0.1:7880", "development-livekit-secret")
    livekit = config["livekit"]["server_url"], config["livekit"]["api_secret"]
    assert livekit == (expected if included else ("", ""))


def test_livekit_without_a_server_is_off(settings):
    settings.LIVEKIT_URL = ""
    Plan.objects.filter(pk="basic").update(livekit=True)

    config = config_of(RelayFactory(livekit_enabled=True))

    assert {*config["livekit"].values()} == {""}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subdomain", "a/b"),
        ("subdomain", "a b"),
        ("admins", ["nobody"]),
        ("moderators", [ADMIN, ""]),
        ("secret", "short"),
        ("secret", ""),
    ],
)
def test_value_that_could_end_zooid_is_refused_by_name_only(field, value):
    relay = RelayFactory()
    setattr(relay, field, value)

    with pytest.raises(RelayMisconfigured) as caught:
        desired(relay)

    assert "short" not in str(caught.value)


BASE = {"host": "a", "info": {"name": "A", "icon": ""}, "roles": {"x": {"p": ["1"]}}}


@pytest.mark.parametrize(
    ("changed", "patch"),
    [
        (BASE, {}),
        ({**BASE, "host": "b"}, {"host": "b"}),
        ({**BASE, "info": {"name": "B", "icon": ""}}, {"info": {"name": "B"}}),
        (
            {**BASE, "roles": {"x": {"p": ["1", "2"]}}},
            {"roles": {"x": {"p": ["1", "2"]}}},
        ),
        ({**BASE, "roles": {}}, {"roles": {"x": None}}),
        ({**BASE, "push": {"enabled": False}}, {"push": {"enabled": False}}),
        ({"host": "a", "info": BASE["info"]}, {"roles": None}),
    ],
    ids=["none", "text", "leaf", "list", "removed role", "new object", "removed"],
)
def test_patch_has_only_what_differs_and_makes_it_equal(changed, patch):
    assert difference(changed, BASE) == patch
    assert merge(BASE, patch) == changed


def test_forgotten_leaves_differ_whatever_is_wanted():
    known = forget(BASE, {"info": {"name": "B"}})

    assert difference(BASE, known) == {"info": {"name": "A"}}


def test_digest_tells_configurations_apart_and_shows_nothing_of_them(settings):
    first = digest(BASE)

    assert first == digest(json.loads(configuration.dump(BASE)))
    assert first != digest({**BASE, "host": "b"})
    settings.SECRET_KEY = "another"
    assert first != digest(BASE)
    assert digest(None) == ""
