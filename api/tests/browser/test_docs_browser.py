"""The API documentation page in a real browser with a Nostr extension."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from caravel.nostr import generate_secret_key, npub, pubkey_of
from caravel.nostr.events import sign_event
from sandbox.tests.support.browser import browser_with_django, new_page

__all__ = ["new_page"]


@pytest.fixture
def browser(django_db_setup) -> Iterator[Browser]:
    """A headless Chromium."""
    with browser_with_django() as chromium:
        yield chromium


def test_tried_out_request_is_signed_by_the_browser_extension(
    live_server, settings, browser, new_page
):
    settings.APP_URL = settings.SPECTACULAR_SETTINGS["SERVERS"][0]["url"] = (
        live_server.url
    )
    key = generate_secret_key()

    def sign(unsigned: dict[str, Any]) -> dict[str, Any]:
        return sign_event(
            key,
            kind=unsigned["kind"],
            content=unsigned["content"],
            tags=unsigned["tags"],
            created_at=unsigned["created_at"],
        ).to_dict()

    page = new_page()
    page.expose_function("extension", sign)
    page.add_init_script("window.nostr = {signEvent: (e) => window.extension(e)}")
    page.goto(f"{live_server.url}/api/docs")
    page.get_by_text("Each request is signed").wait_for()
    page.get_by_text("Get my identity").click()
    assert page.get_by_role("button", name="Authorize").count() == 0
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()

    page.get_by_text(npub(pubkey_of(key))).first.wait_for()
