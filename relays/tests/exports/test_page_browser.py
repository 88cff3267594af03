"""The page of a relay's exports in a real browser."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, expect

from relays.models import RelayExport
from relays.services.exports.links import export_url
from relays.tests.factories import DoneExportFactory, RelayFactory
from sandbox.tests.support.accessibility import violations
from sandbox.tests.support.browser import browser_with_django, new_page

__all__ = ["new_page"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
]


@pytest.fixture
def browser(django_db_setup) -> Iterator[Browser]:
    """A headless Chromium."""
    with browser_with_django() as chromium:
        yield chromium


def test_owner_orders_an_export_and_downloads_it(live_server, settings, new_page):
    settings.APP_URL = live_server.url
    relay = RelayFactory(subdomain="birds", first_served_at=timezone.now())
    page = new_page()

    page.goto(export_url(relay))
    assert violations(page) == []
    page.get_by_role("button", name="Prepare the export").click()
    expect(page.get_by_text("the relay has not been read yet")).to_be_visible()
    assert violations(page) == []

    RelayExport.objects.all().delete()
    DoneExportFactory(relay=relay)
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_text("2 events")).to_be_visible()
    assert violations(page) == []
    with page.expect_download() as started:
        page.get_by_role("button", name="Download").click()

    file = started.value
    assert file.suggested_filename.startswith("birds-")
    content = gzip.decompress(Path(file.path()).read_bytes())
    assert content == b'{"n":1}\n{"n":2}\n'
