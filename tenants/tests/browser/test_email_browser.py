"""The pages behind the links in e-mails, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from sandbox.tests.support.accessibility import violations
from sandbox.tests.support.browser import browser_with_django, new_page
from tenants.models import Tenant
from tenants.services.email_links import confirmation_url, stop_url
from tenants.tests.factories import TenantFactory

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


def test_owner_confirms_the_address_and_ends_the_mails_later(
    live_server, settings, new_page
):
    settings.APP_URL = live_server.url
    tenant = TenantFactory(email="ann@example.com")
    page = new_page()

    page.goto(confirmation_url(tenant))
    assert violations(page) == []
    page.get_by_role("button", name="Yes, send them to me").click()
    expect(
        page.get_by_role("heading", name="Your address is confirmed")
    ).to_be_visible()
    assert violations(page) == []
    assert Tenant.objects.get().mail_address == "ann@example.com"

    page.goto(stop_url(tenant))
    assert violations(page) == []
    page.get_by_role("button", name="Stop these e-mails").click()
    expect(
        page.get_by_role("heading", name="No more e-mails to this address")
    ).to_be_visible()
    assert Tenant.objects.get().mail_address == ""


def test_damaged_link_has_a_page_of_its_own(live_server, new_page):
    page = new_page(tolerated="404")

    page.goto(f"{live_server.url}/confirm-email/x")

    expect(page.get_by_text("This link is incomplete or invalid.")).to_be_visible()
    assert violations(page) == []
