"""Page behind the payment prompt of a relay: it sends the link to the owner only."""

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.dunning.notices import drop_unpaid_notices
from billing.services.dunning.suspension import review_tenant
from billing.services.invoices.payment_link import verify_token
from billing.tests.factories import InvoiceCollectionFactory
from billing.tests.support.threads import in_threads
from relays.models import RelaySync
from relays.services.provisioning.owner_words import public_description
from relays.tests.factories import RelayFactory
from tenants.models import Notice, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def relay(settings):
    settings.RELAY_PAYMENT_PROMPT = True
    return RelayFactory(subdomain="paint")


@pytest.fixture
def invoice(relay):
    """An invoice that only the owner can pay."""
    invoice = InvoiceCollectionFactory(
        tenant=relay.tenant, state="manual", attempts_started=1
    )
    review_tenant(tenant_id=relay.tenant_id)
    return invoice


def url(relay) -> str:
    return f"/relay-payment/{relay.pk}"


def links() -> list[Notice]:
    return list(Notice.objects.filter(kind="payment_link").order_by("created_at"))


def link_in(notice):
    return next(line for line in notice.text.splitlines() if "/pay/" in line)


def shows_prompt(relay) -> bool:
    relay.refresh_from_db()
    return "relay-payment" in public_description(relay)


def version(relay) -> int:
    return RelaySync.objects.get(pk=relay.pk).version


def test_page_shows_nothing_that_only_the_owner_may_know(client, relay, invoice):
    page = client.get(url(relay)).content.decode()

    assert "An invoice for paint is unpaid" in page
    for secret in ("5.00", invoice.pk, invoice.number, "/pay/", relay.tenant_id):
        assert secret not in page
    assert links() == []


def test_button_sends_the_link_to_the_owner(client, relay, invoice):
    response = client.post(url(relay))

    [notice] = links()
    assert notice.tenant_id == relay.tenant_id
    token = link_in(notice).rsplit("/pay/", 1)[1]
    assert verify_token(token) == invoice.pk
    assert "$5.00" in notice.title
    assert b"on its way" in response.content
    assert "/pay/" not in response.content.decode()


def test_link_is_sent_once_a_day_however_often_the_button_is_pressed(
    client, relay, invoice
):
    start = timezone.now()
    for hours, sent in ((0, 1), (1, 1), (23, 1), (25, 2), (26, 2), (50, 3)):
        with time_machine.travel(start + timedelta(hours=hours), tick=False):
            assert client.post(url(relay)).status_code == 200
            assert len(links()) == sent


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_two_requests_at_once_send_one_link(client, relay, invoice):
    assert in_threads(4, lambda: client.post(url(relay))) == []

    assert len(links()) == 1


def test_all_relays_of_an_owner_share_the_limit(client, relay, invoice):
    other = RelayFactory(tenant=relay.tenant)

    for each in (relay, other):
        client.post(url(each))

    assert len(links()) == 1


def test_unsent_link_is_dropped_when_the_invoice_is_paid(client, relay, invoice):
    client.post(url(relay))

    drop_unpaid_notices(invoice)

    assert [notice.state for notice in links()] == ["dropped"]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("case", ["paid", "just paid", "deleted", "off", "unknown"])
def test_relay_without_a_payment_to_ask_for_has_no_page(
    client, relay, invoice, settings, case, method
):
    if case == "paid":
        Tenant.objects.update(past_due_at=None)
    if case == "just paid":
        InvoiceCollection.objects.update(stripe_status="paid", amount_remaining_cents=0)
    if case == "deleted":
        relay.status, relay.deleted_at = "inactive", timezone.now()
        relay.save()
    settings.RELAY_PAYMENT_PROMPT = case != "off"
    target = f"/relay-payment/{uuid4()}" if case == "unknown" else url(relay)

    response = getattr(client, method)(target)

    assert response.status_code == 404
    assert b"no payment is needed for this relay" in response.content
    assert links() == []


def test_page_is_throttled_per_address(client, relay, invoice, settings):
    settings.API_RATE_PER_ADDRESS = "2/minute"

    statuses = [client.get(url(relay)).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


def test_page_is_kept_out_of_caches_and_search_engines(client, relay, invoice):
    response = client.get(url(relay))

    assert response["Cache-Control"] == "no-store, private"
    assert "noindex" in response["X-Robots-Tag"]


def test_unpaid_invoice_makes_a_sync_of_the_relays_due_until_it_is_paid(relay, invoice):
    assert shows_prompt(relay)
    before = version(relay)

    InvoiceCollection.objects.update(stripe_status="paid", amount_remaining_cents=0)
    review_tenant(tenant_id=relay.tenant_id)

    assert not shows_prompt(relay)
    assert version(relay) == before + 1


def test_review_without_a_change_makes_no_sync_due(relay, invoice):
    before = version(relay)

    review_tenant(tenant_id=relay.tenant_id)

    assert version(relay) == before


def test_exemption_takes_the_prompt_back(relay, invoice):
    before = version(relay)

    relay.tenant.dunning_exempt = True
    relay.tenant.save(update_fields=["dunning_exempt"])

    assert not shows_prompt(relay)
    assert version(relay) == before + 1


def test_no_sync_without_the_prompt(relay, settings):
    settings.RELAY_PAYMENT_PROMPT = False
    RelaySync.objects.all().delete()

    InvoiceCollectionFactory(tenant=relay.tenant, state="manual", attempts_started=1)
    review_tenant(tenant_id=relay.tenant_id)

    assert Tenant.objects.get().past_due_at is not None
    assert not RelaySync.objects.exists()
