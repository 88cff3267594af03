"""The page behind the link to a relay's exports."""

import gzip
from datetime import UTC, datetime

import pytest
from django.utils import timezone

from relays.models import Relay, RelayExport
from relays.services.exports.links import export_url
from relays.tests.factories import DoneExportFactory, RelayExportFactory, RelayFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def relay():
    return RelayFactory(first_served_at=timezone.now(), subdomain="birds")


@pytest.fixture
def url(relay, settings):
    return export_url(relay).removeprefix(settings.APP_URL)


def test_opening_the_page_orders_nothing(client, url):
    page = client.get(url)

    assert page.status_code == 200
    assert "Prepare the export" in page.text
    assert client.head(url).status_code == 200
    assert not RelayExport.objects.exists()


def test_button_orders_an_export_once(client, url, relay):
    page = client.post(url, {"action": "order"}).text
    assert "the relay has not been read yet. You can close this page" in page
    client.post(url, {"action": "order"})

    assert RelayExport.objects.get().relay == relay
    assert "Prepare" not in client.get(url).text


def test_page_shows_the_progress(client, url, relay):
    RelayExportFactory(relay=relay, state="running", events=1234, cursor=1_700_000_000)

    assert "1234 events so far, back to 14 November 2023" in client.get(url).text


def test_page_says_that_the_relay_is_not_reached(client, url, relay):
    RelayExportFactory(relay=relay, failures=3)

    assert "It could not be reached at the last attempt" in client.get(url).text


def test_page_of_a_deleted_relay_says_when_it_was_deleted(client, url, relay):
    at = datetime(2027, 4, 19, tzinfo=UTC)
    Relay.objects.update(status="inactive", deleted_at=at)

    assert "The relay was deleted on 19 April 2027." in client.get(url).text


def test_finished_export_is_downloaded_as_one_file(client, url, relay):
    export = DoneExportFactory(relay=relay)

    assert "Download" in client.get(url).text
    file = client.post(url, {"action": "download"})

    assert gzip.decompress(b"".join(file)) == b'{"n":1}\n{"n":2}\n'
    assert int(file["Content-Length"]) == export.size_bytes
    today = f"{timezone.now():%Y-%m-%d}"
    assert file["Content-Disposition"] == (
        f'attachment; filename="birds-{today}.jsonl.gz"'
    )
    assert file["Cache-Control"] == "no-store, private"


def test_finished_export_can_be_downloaded_while_another_is_prepared(
    client, url, relay
):
    DoneExportFactory(relay=relay)
    RelayExportFactory(relay=relay)

    page = client.get(url).text

    assert "being prepared" in page
    assert "Download" in page


def test_deleted_relays_file_remains_and_nothing_is_ordered(client, url, relay):
    DoneExportFactory(relay=relay)
    Relay.objects.filter(pk=relay.pk).update(
        status="inactive", deleted_at=timezone.now()
    )

    assert "Prepare" not in client.get(url).text
    assert client.post(url, {"action": "order"}).status_code == 404
    assert client.post(url, {"action": "download"}).status_code == 200


@pytest.mark.parametrize("action", ["order", "download"])
def test_error_is_a_page(client, settings, action):
    relay = RelayFactory()
    url = export_url(relay).removeprefix(settings.APP_URL)

    page = client.post(url, {"action": action})

    assert page.status_code == 409
    assert "This did not work" in page.text


def test_damaged_link_is_a_page(client):
    page = client.get("/exports/x")

    assert page.status_code == 404
    assert "This link is incomplete or invalid." in page.text


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("export-too-large", "More than 5 MiB."),
        ("zooid-unavailable", "The relay could not be read."),
    ],
)
def test_failure_is_told_but_not_what_concerns_our_servers(
    client, url, relay, code, shown
):
    RelayExportFactory(
        relay=relay,
        state="failed",
        last_error=f"More than 5 MiB. [{code}]",
        last_error_code=code,
    )

    page = client.get(url).text

    assert shown in page
    assert ("5 MiB" in page) == (code == "export-too-large")


def test_one_download_of_a_relay_runs_at_once(client, url, relay):
    DoneExportFactory(relay=relay)

    first = client.post(url, {"action": "download"})
    assert client.post(url, {"action": "download"}).status_code == 503
    assert b"".join(first)

    assert b"".join(client.post(url, {"action": "download"}))
