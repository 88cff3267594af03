"""Every page for people who are no staff has nothing serious that axe-core finds."""

from collections.abc import Iterator

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from playwright.sync_api import Browser

from billing.services.invoices.payment_link import payment_url
from billing.tests.factories import InvoiceCollectionFactory
from relays.services.exports.links import export_url
from relays.tests.factories import RelayFactory
from sandbox.tests.support.accessibility import violations
from sandbox.tests.support.browser import browser_with_django, new_page
from tenants.services.email_links import confirmation_url, stop_url
from tenants.tests.factories import TenantFactory

__all__ = ["new_page"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
]
#: Names of URLs that have no page of their own.
NO_PAGES = {
    "api-schema",
    "pay-card",
    "pay-status",
    "receipt-json",
    "receipt-pdf",
    "stripe-webhook",
}


@pytest.fixture
def browser(django_db_setup) -> Iterator[Browser]:
    """A headless Chromium."""
    with browser_with_django() as chromium:
        yield chromium


@pytest.fixture
def urls(live_server, settings) -> dict[str, str]:
    """A URL of each page, by its name in Django."""
    settings.APP_URL, settings.RELAY_PAYMENT_PROMPT = live_server.url, True
    tenant = TenantFactory(email="ann@mail.example", past_due_at=timezone.now())
    relay = RelayFactory(tenant=tenant, first_served_at=timezone.now())
    pay, _ = [
        payment_url(InvoiceCollectionFactory(tenant=tenant, stripe_status="open"))
        for _ in range(2)
    ]
    return {
        "home": f"{live_server.url}/",
        "api-docs": f"{live_server.url}/api/docs",
        "pay": pay,
        "pay-all": f"{pay}/all",
        "confirm-email": confirmation_url(tenant),
        "stop-email": stop_url(tenant),
        "relay-payment": live_server.url + reverse("relay-payment", args=[relay.pk]),
        "relay-export": export_url(relay),
    }


def names(resolver: URLResolver) -> Iterator[str]:
    """Yield the names of all URLs outside the admin."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield from filter(None, [pattern.name])
        elif pattern.namespace != "admin":
            yield from names(pattern)


def test_each_page_is_accessible(urls, new_page):
    assert set(names(get_resolver())) - NO_PAGES == urls.keys()

    page = new_page(bypass_csp=True)
    found = []
    for url in urls.values():
        response = page.goto(url, wait_until="networkidle")
        assert response and response.ok and response.url == url
        page.get_by_role("heading").first.wait_for()
        found += [f"{url}: {violation}" for violation in violations(page)]

    assert found == []
