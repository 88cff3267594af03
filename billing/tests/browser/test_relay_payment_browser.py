"""The page behind a relay's payment prompt, in a real browser."""

import pytest
from playwright.sync_api import expect

from billing.services.dunning.suspension import review_tenant
from billing.tests.factories import InvoiceCollectionFactory
from relays.models import Relay
from relays.services.provisioning.owner_words import public_description
from relays.tests.factories import RelayFactory
from sandbox.tests.support.accessibility import violations
from tenants.models import Notice

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
]


@pytest.fixture
def relay(live_server, settings):
    settings.APP_URL = live_server.url
    settings.RELAY_PAYMENT_PROMPT = True
    return RelayFactory(subdomain="paint", description="Painters.")


def test_owner_follows_the_relays_description_and_gets_a_link(relay, new_page):
    invoice = InvoiceCollectionFactory(
        tenant=relay.tenant, state="manual", attempts_started=1
    )
    review_tenant(tenant_id=relay.tenant_id)
    text = public_description(Relay.objects.get(pk=relay.pk))
    page = new_page(viewport={"width": 375, "height": 812})

    page.goto(text.rsplit(" ", 1)[1])
    expect(
        page.get_by_role("heading", name="An invoice for paint is unpaid")
    ).to_be_visible()
    assert violations(page) == []

    page.get_by_role("button", name="Send me the payment link").click()
    expect(
        page.get_by_role("heading", name="The payment link is on its way")
    ).to_be_visible()
    assert violations(page) == []
    assert Notice.objects.get(kind="payment_link").subject == invoice.pk


def test_relay_without_a_debt_has_a_page_that_says_so(relay, live_server, new_page):
    page = new_page(tolerated="404")

    page.goto(f"{live_server.url}/relay-payment/{relay.pk}")

    expect(page.get_by_text("no payment is needed for this relay")).to_be_visible()
    assert violations(page) == []
