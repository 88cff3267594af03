"""Fixtures for the tests of pages in a headless Chromium."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from sandbox.tests.support.browser import new_page, running_browser

__all__ = ["new_page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


# Not for the whole session: while Playwright runs, this thread has a running event
# loop, and Django refuses to use the database from such a thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped if it is not installed."""
    with running_browser() as chromium:
        yield chromium
