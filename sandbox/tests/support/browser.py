"""Headless Chromium for the tests of pages."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from caravel.tests.support.waiting import LIMIT

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Chromium must not use the network for anything but the page under test.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Pages of one context share a process: starting it is most of the work of a page.
    "--disable-site-isolation-trials",
    "--renderer-process-limit=1",
]
NewPage = Callable[..., Page]
#: In milliseconds.
TIMEOUT = 1_000 * LIMIT
expect.set_options(timeout=TIMEOUT)


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Function that opens pages; the test fails if they log errors.

    Each page has its own browser context. `tolerated` is a substring of the messages
    that the test provokes.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(tolerated: str | None = None, **options: Any) -> Page:
        def record(problem: str) -> None:
            if tolerated is None or tolerated not in problem:
                problems.append(problem)

        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("pageerror", lambda error: record(str(error)))
        page.on("console", lambda message: record(message.text))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems


def widths_that_scroll(page: Page, widths: Iterable[int]) -> dict[int, int]:
    """Return the widths of the content of a page, by those that are too narrow for it.

    Resizing a page needs a tenth of the time that loading it in another window does.
    """
    contents = {}
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        contents[width] = page.evaluate("document.documentElement.scrollWidth")
    return {width: content for width, content in contents.items() if content != width}


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a headless Chromium, or skip the test if it is not installed."""
    path = find_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def browser_with_django() -> Iterator[Browser]:
    """Start a headless Chromium for tests that also use Django's database.

    While Playwright runs, the tests' thread has an event loop: Django would refuse
    database access, and opens separate connections for it, which are closed here. The
    access is safe, since it happens between calls of Playwright. The database must
    exist before the browser starts.
    """
    with pytest.MonkeyPatch.context() as patch, running_browser() as chromium:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield chromium
        connections.close_all()


def find_chromium() -> str:
    """Return the path of Chromium; without it, skip the test or fail.

    It fails if CARAVEL_REQUIRE_BROWSER is set.
    """
    path = os.environ.get("CHROMIUM") or next(
        (path for name in NAMES if (path := shutil.which(name))), None
    )
    if path is None:
        message = f"CHROMIUM is not set and none of these exist: {', '.join(NAMES)}"
        if os.environ.get("CARAVEL_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    return path
