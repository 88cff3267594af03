"""The admin in a real browser: its Content-Security-Policy blocks nothing it needs."""

import secrets

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from billing.models import InvoiceCollection
from billing.tests.support.admin import admin_url
from relays.models import Relay
from tenants.models import Activity, Tenant


@pytest.fixture
def admin_page(live_server, new_page, invoice):
    """A page on which a superuser has logged in."""
    password = secrets.token_hex(16)
    User.objects.create_superuser("root", password=password)
    page = new_page()
    page.goto(live_server.url + reverse("admin:index"))
    page.get_by_label("Username").fill("root")
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Site administration").wait_for()
    return page


def test_pages_load_without_a_violation(admin_page, live_server, invoice):
    """`new_page` fails the test if the browser reports one."""
    paths = [
        *(admin_url(model, "changelist") for model in (Relay, Tenant, Activity)),
        admin_url(InvoiceCollection, "changelist"),
        admin_url(InvoiceCollection, "change", invoice.pk),
        admin_url(Relay, "add"),
        admin_url(Tenant, "change", invoice.tenant_id),
        reverse("admin:auth_user_add"),
    ]
    for path in paths:
        admin_page.goto(live_server.url + path)
        # Alpine has evaluated the attributes: it shows what it hid until then.
        admin_page.wait_for_function("!document.querySelector('html[x-cloak]')")


def test_action_is_chosen_and_run(admin_page, live_server, invoice):
    admin_page.goto(live_server.url + admin_url(InvoiceCollection, "changelist"))

    admin_page.locator("input[name=_selected_action]").first.check()
    admin_page.locator("select[name=action]").select_option("seven_days_more")
    admin_page.get_by_role("button", name="Run").click()

    admin_page.get_by_text("Extended the grace period of 1 invoice").wait_for()
