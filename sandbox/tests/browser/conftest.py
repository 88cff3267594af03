"""A headless Chromium for the tests of pages, and what goes wrong in it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing but the page under test may use the network.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NewPage = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


# Not for the whole session: while Playwright runs, its event loop does too, and
# Django refuses to touch a database from a thread that has one.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped where there is none."""
    path = executable()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Opens pages, each in a context of its own; no other problem may be logged.

    `tolerated` is a part of those messages that the test provokes.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(tolerated: str | None = None, **options: Any) -> Page:
        def note(problem: str) -> None:
            if tolerated is None or tolerated not in problem:
                problems.append(problem)

        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("console", lambda message: note(message.text))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@contextmanager
def beside_django(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """A headless Chromium for pages of the application, which the test serves itself.

    While Playwright runs, so does its event loop, for which Django has connections of
    their own; they are only used between its calls. The database is there first.
    """
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    path = executable()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()
        connections.close_all()


def executable() -> str:
    """Return where Chromium is; without one the test is skipped, or fails."""
    found = os.environ.get("CHROMIUM") or next(
        (path for name in NAMES if (path := shutil.which(name))), None
    )
    if found is None:
        message = f"CHROMIUM is unset and there is none of: {', '.join(NAMES)}"
        if os.environ.get("CARAVEL_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    return found
