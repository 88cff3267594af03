"""Fixtures for browser tests: an invoice on the live server, and a Chromium."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from PIL import Image
from playwright.sync_api import Browser, Page

from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.invoices.payment_link import payment_url
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.saved_state import SavedState
from relays.services.lifecycle import create_relay
from sandbox.tests.support.browser import browser_with_django, new_page
from tenants.tests.factories import TenantFactory

__all__ = ["new_page"]
#: Environment variable; set it to save the documentation's screenshots.
PICTURES = "CARAVEL_PICTURES"
SavePicture = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def _saved_ada(_saved_prices, django_db_blocker) -> SavedState[str]:
    with django_db_blocker.unblock():
        state: SavedState[str] = _saved_prices.then(_build_ada)
    return state


def _build_ada() -> str:
    tenant = TenantFactory(display_name="Ada")
    for subdomain, plan in (("ada", "basic"), ("engines", "growth")):
        create_relay(tenant_id=tenant.pk, subdomain=subdomain, plan_id=plan)
    sync_tenant(tenant_id=tenant.pk)
    invoice_id = str(InvoiceCollection.objects.get().pk)
    collect_invoice(invoice_id=invoice_id)
    return invoice_id


@pytest.fixture
def invoice(
    transactional_db,
    django_db_serialized_rollback,
    prices,
    own_wallet,
    rates,
    _saved_ada,
) -> InvoiceCollection:
    """An open invoice of the tenant Ada, for two relays."""
    return InvoiceCollection.objects.get(pk=_saved_ada.restore())


@pytest.fixture
def link(live_server, settings, invoice) -> str:
    """URL of the invoice's payment page."""
    settings.APP_URL = live_server.url
    return payment_url(invoice)


@pytest.fixture(scope="package")
def browser(django_db_setup) -> Iterator[Browser]:
    """A headless Chromium."""
    with browser_with_django() as chromium:
        yield chromium


@pytest.fixture
def save_picture() -> SavePicture:
    """Save a screenshot of a page for the documentation if CARAVEL_PICTURES is set."""

    def save(page: Page, name: str) -> None:
        if name and os.environ.get(PICTURES):
            directory = Path(django_settings.BASE_DIR) / "docs" / "images"
            directory.mkdir(parents=True, exist_ok=True)
            shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
            small = shot.convert("RGB").quantize(128)
            small.save(directory / f"{name}.png", optimize=True)

    return save
