"""Stripe's customer portal, for tenants and for payers with a payment link."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.errors import StripeUnavailable
from billing.exceptions import (
    CustomerGone,
    InvoiceNotOpen,
    ReturnUrlInvalid,
    UnknownInvoice,
)
from billing.models import InvoiceCollection
from billing.services.customers.customer import ensure_customer
from billing.services.customers.portal import (
    ENABLED_FEATURES,
    card_session,
    ensure_configurations,
    portal_session,
)
from billing.services.subscriptions.sync import sync_tenant
from caravel.core import cache
from sandbox.tests.support.stripe.web import fetch, submit, words
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

RETURN_URL = "https://caravel.example/account"


def configurations(sandbox):
    return sandbox.client().v1.billing_portal.configurations.list({}).data


def open_portal(tenant) -> str:
    return portal_session(pubkey=tenant.pk, return_url=RETURN_URL)


# --- configurations


def test_configurations_enable_only_cards_and_invoices(sandbox):
    ensure_configurations(Stripe())

    offered = {
        configuration.metadata["caravel"]: {
            name
            for name, feature in configuration.features.to_dict().items()
            if feature["enabled"]
        }
        for configuration in configurations(sandbox)
    }
    assert offered == ENABLED_FEATURES
    assert offered["card"] == {"payment_method_update"}


def test_configurations_are_created_once(sandbox):
    first = ensure_configurations(Stripe())
    again = ensure_configurations(Stripe())

    assert [each.id for each in first] == [each.id for each in again]
    assert [each.created for each in first + again] == [True, True, False, False]
    assert len(configurations(sandbox)) == 2


def test_configuration_is_created_once_when_the_answer_is_lost(sandbox):
    sandbox.fault("reset", path="configurations$", when="after", times=3)
    with pytest.raises(StripeUnavailable):
        ensure_configurations(Stripe())

    ensure_configurations(Stripe())

    assert len(configurations(sandbox)) == 2


def test_changed_configuration_is_corrected(sandbox):
    corrected, _ = ensure_configurations(Stripe())
    cancel = {"subscription_cancel": {"enabled": True}}
    api = sandbox.client().v1.billing_portal.configurations
    api.update(corrected.id, {"active": False, "features": cancel})

    ensure_configurations(Stripe())

    configuration = api.retrieve(corrected.id)
    assert configuration.active
    assert not configuration.features.subscription_cancel.enabled


def test_other_configurations_are_not_changed(sandbox):
    other = sandbox.save_portal()

    ensure_configurations(Stripe())

    api = sandbox.client().v1.billing_portal.configurations
    assert api.retrieve(other["id"]).features.to_dict() == other["features"]


# --- a tenant's portal


def test_portal_shows_the_tenants_invoices(invoice, sandbox):
    page = words(fetch(open_portal(invoice.tenant)).text)

    assert invoice.number in page
    assert "Save details" not in page
    (request,) = sandbox.requests("POST", "billing_portal/sessions")
    assert request["status"] == 200


def test_portal_ignores_the_accounts_default_configuration(subscriber, sandbox):
    sandbox.save_portal(
        {"customer_update": {"enabled": True, "allowed_updates": ["email"]}}
    )

    page = words(fetch(open_portal(subscriber)).text)

    assert "Save details" not in page


def test_portal_creates_a_missing_customer_once(sandbox):
    tenant = TenantFactory()

    assert open_portal(tenant) != open_portal(tenant)

    (customer,) = sandbox.client().v1.customers.list({}).data
    assert Tenant.objects.get().stripe_customer_id == customer.id


def test_customer_created_by_another_process_is_used(sandbox):
    tenant = TenantFactory()
    stale = Tenant.objects.get(pk=tenant.pk)
    ensure_customer(Stripe(), tenant)

    assert ensure_customer(Stripe(), stale) == tenant.stripe_customer_id

    assert len(sandbox.client().v1.customers.list({}).data) == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_concurrent_portals_create_one_customer(sandbox):
    tenant = TenantFactory()
    start = threading.Barrier(4, timeout=60)

    def open_concurrently(_: int) -> str:
        start.wait()
        try:
            return open_portal(tenant)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        urls = list(pool.map(open_concurrently, range(4)))

    assert len(set(urls)) == 4
    assert len(sandbox.client().v1.customers.list({}).data) == 1


def test_configuration_is_looked_up_once(subscriber, sandbox):
    open_portal(subscriber)
    open_portal(subscriber)

    assert len(sandbox.requests("GET", "billing_portal/configurations")) == 1


@pytest.mark.parametrize("reason", ["switched off", "of another account"])
def test_invalid_cached_configuration_is_looked_up_again(subscriber, sandbox, reason):
    open_portal(subscriber)
    if reason == "switched off":
        for each in configurations(sandbox):
            api = sandbox.client().v1.billing_portal.configurations
            api.update(each.id, {"active": False})
    else:
        cache.set("portal-configuration:tenant", "bpc_none", seconds=60)

    assert fetch(open_portal(subscriber)).status_code == 200


def test_each_session_looks_the_configuration_up_without_redis(
    subscriber, sandbox, no_redis
):
    open_portal(subscriber)
    open_portal(subscriber)

    assert len(sandbox.requests("GET", "billing_portal/configurations")) == 2
    assert len(configurations(sandbox)) == 2


def test_no_portal_for_a_deleted_customer_until_the_next_sync(subscriber, sandbox):
    sandbox.client().v1.customers.delete(subscriber.stripe_customer_id)

    with pytest.raises(CustomerGone):
        open_portal(subscriber)
    sync_tenant(tenant_id=subscriber.pk)

    assert fetch(open_portal(subscriber)).status_code == 200


def test_return_url_refused_by_stripe_is_invalid(subscriber, sandbox):
    sandbox.fault(
        "status",
        path="/sessions$",
        status=400,
        error={"type": "invalid_request_error", "param": "return_url"},
    )

    with pytest.raises(ReturnUrlInvalid):
        open_portal(subscriber)


def test_portal_is_unavailable_when_stripe_is(subscriber, sandbox):
    sandbox.fault("status", path="/sessions$", status=503, times=None)

    with pytest.raises(StripeUnavailable):
        open_portal(subscriber)


# --- card of a payer


def test_payer_adds_a_card_and_returns_without_seeing_invoices(invoice, sandbox):
    url = card_session(invoice_id=invoice.pk, return_url=RETURN_URL)

    page = fetch(url).text
    saved = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert invoice.number not in words(page)
    assert 'id="invoices"' not in page
    assert f'content="0;url={RETURN_URL}"' in saved
    api = sandbox.client().v1
    assert api.payment_methods.list({"customer": invoice.stripe_customer_id}).data


def test_no_card_session_for_a_paid_invoice(invoice, sandbox):
    InvoiceCollection.objects.update(stripe_status="paid", amount_remaining_cents=0)

    with pytest.raises(InvoiceNotOpen):
        card_session(invoice_id=invoice.pk, return_url=RETURN_URL)

    assert not sandbox.requests("POST", "billing_portal/sessions")


def test_no_card_session_for_an_unknown_invoice(sandbox):
    with pytest.raises(UnknownInvoice):
        card_session(invoice_id="in_nothing", return_url=RETURN_URL)
