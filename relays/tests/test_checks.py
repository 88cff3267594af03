"""System checks of the settings of zooid and LiveKit."""

import pytest
from django.core.checks import run_checks

from relays.checks import (
    check_livekit,
    check_plans,
    check_zooid,
    check_zooid_is_private,
)
from relays.models import Plan

pytestmark = pytest.mark.django_db


def ids(messages) -> list[str]:
    return [message.id for message in messages]


def test_plan_with_livekit_needs_a_server(settings):
    assert check_plans(databases=["default"]) == []

    settings.LIVEKIT_URL = ""

    (warning,) = check_plans(databases=["default"])
    assert warning.id == "relays.W001"
    assert "part of Growth" in warning.msg
    Plan.objects.update(livekit=False)
    assert check_plans(databases=["default"]) == []


def test_check_of_plans_needs_a_database(settings):
    settings.LIVEKIT_URL = ""

    assert check_plans() == []


@pytest.mark.parametrize("name", ["LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"])
def test_livekit_server_needs_a_key_and_a_secret(settings, name):
    assert check_livekit() == []

    setattr(settings, name, "")

    (error,) = check_livekit()
    assert (error.id, name in error.msg) == ("relays.E001", True)
    settings.LIVEKIT_URL = ""
    assert check_livekit() == []


def test_zooid_that_obeys_passes_the_check(zooid):
    assert check_zooid(databases=["default"]) == []


def test_check_of_the_settings_alone_asks_no_zooid(zooid):
    assert check_zooid() == []

    assert zooid.requests == []


def test_zooid_that_does_not_know_our_key_is_reported(zooid, settings):
    settings.ROBOT_SECRET = "7" * 64

    (warning,) = check_zooid(databases=["default"])

    assert warning.id == "relays.W003"
    assert "7" * 64 not in warning.msg


def test_zooid_that_is_away_is_reported(zooid, settings):
    settings.ZOOID_API_URL = "http://127.0.0.1:9"

    assert ids(check_zooid(databases=["default"])) == ["relays.W003"]


def test_zooid_that_is_too_old_to_list_members_is_reported(zooid):
    zooid.fault("error", method="GET", status=405)

    (warning,) = check_zooid(databases=["default"])

    assert "too old" in warning.msg


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("http://zooid.example.org", True),
        ("http://93.184.215.14:8080", True),
        ("http://zooid:3334", False),
        ("http://10.0.0.3", False),
        ("http://127.0.0.1:3334", False),
        ("https://zooid.example.org", False),
    ],
)
def test_plain_http_to_a_public_host_is_reported(settings, url, is_warned):
    settings.ZOOID_API_URL = url

    assert ids(check_zooid_is_private()) == ["relays.W002"] * is_warned


def test_zooid_is_asked_only_before_a_deployment(zooid):
    zooid.fault("error")

    everything = run_checks(databases=["default"], include_deployment_checks=True)

    assert "relays.W003" in ids(everything)
    assert "relays.W003" not in ids(run_checks(databases=["default"]))
    assert "relays.W003" not in ids(run_checks(include_deployment_checks=True))
