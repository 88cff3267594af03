from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from relays.exceptions import ExportLinkExpired, ExportLinkInvalid
from relays.services.exports.links import LIFETIME, export_url, read_link
from relays.tests.factories import RelayFactory
from tenants.services.email_links import stop_url

pytestmark = pytest.mark.django_db


def token_of(url):
    return url.rpartition("/")[2]


def test_link_names_its_relay_and_nothing_else(settings):
    settings.APP_URL = "https://caravel.example"
    relay = RelayFactory()

    url = export_url(relay)

    assert url.startswith("https://caravel.example/exports/")
    assert read_link(token_of(url)) == relay.pk


@pytest.mark.parametrize(
    "damage",
    [lambda t: t[:-1], lambda t: f"0{t}", lambda t: "x"],
    ids=["cut", "longer", "other"],
)
def test_damaged_link_is_invalid(damage):
    token = token_of(export_url(RelayFactory()))

    with pytest.raises(ExportLinkInvalid):
        read_link(damage(token))


def test_link_of_another_purpose_is_invalid():
    relay = RelayFactory()

    with pytest.raises(ExportLinkInvalid):
        read_link(token_of(stop_url(relay.tenant)))


def test_link_expires():
    token = token_of(export_url(RelayFactory()))

    with (
        time_machine.travel(timezone.now() + LIFETIME + timedelta(seconds=2)),
        pytest.raises(ExportLinkExpired),
    ):
        read_link(token)
