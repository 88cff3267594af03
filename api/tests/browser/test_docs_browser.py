"""The API documentation page in a real browser with a Nostr extension."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from api.views import docs
from caravel.nostr import generate_secret_key, npub, pubkey_of
from caravel.nostr.events import sign_event
from sandbox.tests.support.browser import browser_with_django, new_page

__all__ = ["new_page"]


@pytest.fixture
def browser(django_db_setup) -> Iterator[Browser]:
    """A headless Chromium."""
    with browser_with_django() as chromium:
        yield chromium


@pytest.fixture
def url(live_server, settings) -> Iterator[str]:
    """The page's URL, on a server that signatures and the schema name."""
    settings.APP_URL = settings.SPECTACULAR_SETTINGS["SERVERS"][0]["url"] = (
        live_server.url
    )
    # A process builds the schema once; the next server has another port.
    docs._build.cache_clear()
    yield f"{live_server.url}/api/docs"
    docs._build.cache_clear()


def open_all(page: Page) -> None:
    """Open one operation of each kind, and its form."""
    page.get_by_text("Each request is signed").wait_for()
    for name in (
        "Get my identity",
        "Update a tenant",
        "List the relays",
        "Delete a relay",
    ):
        page.get_by_text(name, exact=True).click()
    buttons = page.get_by_role("button", name="Try it out")
    for _ in range(4):
        buttons.first.click()
    page.get_by_role("button", name="Execute").nth(3).wait_for()


def test_docs_page_has_no_serious_accessibility_fault(url, browser, new_page):
    # The checker is a script of the test's, which the page's policy would block.
    page = new_page(bypass_csp=True)
    page.goto(url)
    open_all(page)

    violations = Axe().run(page).response["violations"]

    assert [
        (each["id"], node["target"])
        for each in violations
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ] == []


def test_docs_page_says_that_no_extension_was_found(url, browser, new_page):
    page = new_page(tolerated="401")
    page.goto(url)

    page.get_by_text("This browser has no Nostr extension").wait_for()
    page.get_by_text("Get my identity").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.get_by_text("auth-missing").first.wait_for()


def test_docs_page_is_useful_without_javascript(url, browser, new_page):
    page = new_page(java_script_enabled=False)
    page.goto(url)

    row = page.get_by_role("row", name="/api/relays/{relay_id}/quote")
    assert "cost of a change of plan" in row.inner_text()
    assert page.get_by_text("This browser has no Nostr extension").is_hidden()


def test_tried_out_request_is_signed_by_the_browser_extension(url, browser, new_page):
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
    page.goto(url)
    page.get_by_text("Each request is signed").wait_for()
    page.get_by_text("Get my identity").click()
    assert page.get_by_text("This browser has no Nostr extension").is_hidden()
    assert page.get_by_role("button", name="Authorize").count() == 0
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()

    page.get_by_text(npub(pubkey_of(key))).first.wait_for()
