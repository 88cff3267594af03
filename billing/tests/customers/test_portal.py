"""Stripe's customer portal, as tenants and people with a payment link get at it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from billing.clients.stripe.client import Stripe
from billing.exceptions import (
    CustomerGone,
    InvoiceNotOpen,
    ReturnUrlInvalid,
    StripeUnavailable,
    UnknownInvoice,
)
from billing.models import InvoiceCollection
from billing.services.customers.customer import ensure_customer
from billing.services.customers.portal import (
    OFFERED,
    card_session,
    ensure_configurations,
    portal_session,
)
from billing.services.subscriptions.sync import sync_tenant
from caravel.core import cache
from sandbox.tests.support.stripe_web import fetch, submit, words
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

BACK = "https://caravel.example/account"


def configurations(sandbox):
    return sandbox.client().v1.billing_portal.configurations.list({}).data


def opened(tenant) -> str:
    return portal_session(pubkey=tenant.pk, return_url=BACK)


# --- the configurations


def test_only_cards_and_old_invoices_are_offered(sandbox):
    ensure_configurations(Stripe())

    made = {each.metadata["caravel"]: each for each in configurations(sandbox)}
    offered = {
        name: {key for key, each in found.features.to_dict().items() if each["enabled"]}
        for name, found in made.items()
    }
    assert offered == OFFERED
    assert offered["card"] == {"payment_method_update"}


def test_configurations_are_made_once(sandbox):
    first = ensure_configurations(Stripe())
    again = ensure_configurations(Stripe())

    assert [each.id for each in first] == [each.id for each in again]
    assert [each.created for each in first + again] == [True, True, False, False]
    assert len(configurations(sandbox)) == 2


def test_a_creation_whose_answer_was_lost_is_not_made_again(sandbox):
    sandbox.fault("reset", path="configurations$", when="after", times=3)
    with pytest.raises(StripeUnavailable):
        ensure_configurations(Stripe())

    ensure_configurations(Stripe())

    assert len(configurations(sandbox)) == 2


def test_what_somebody_has_changed_is_corrected(sandbox):
    ours, _ = ensure_configurations(Stripe())
    cancel = {"subscription_cancel": {"enabled": True}}
    api = sandbox.client().v1.billing_portal.configurations
    api.update(ours.id, {"active": False, "features": cancel})

    ensure_configurations(Stripe())

    found = api.retrieve(ours.id)
    assert found.active
    assert not found.features.subscription_cancel.enabled


def test_configurations_of_others_are_left_alone(sandbox):
    theirs = sandbox.save_portal()

    ensure_configurations(Stripe())

    found = sandbox.client().v1.billing_portal.configurations.retrieve(theirs["id"])
    assert found.features.to_dict() == theirs["features"]


# --- a tenant's portal


def test_a_tenant_gets_at_its_own_cards_and_invoices(invoice, sandbox):
    page = words(fetch(opened(invoice.tenant)).text)

    assert invoice.number in page
    assert "Cancel subscription" not in page
    (asked,) = sandbox.requests("POST", "billing_portal/sessions")
    assert asked["status"] == 200


def test_no_session_uses_the_accounts_own_configuration(subscriber, sandbox):
    sandbox.save_portal({"subscription_cancel": {"enabled": True}})

    page = words(fetch(opened(subscriber)).text)

    assert "Cancel subscription" not in page


def test_a_tenant_without_a_customer_becomes_one_once(sandbox):
    tenant = TenantFactory()

    assert opened(tenant) != opened(tenant)

    (customer,) = sandbox.client().v1.customers.list({}).data
    assert Tenant.objects.get().stripe_customer_id == customer.id


def test_a_customer_that_was_made_meanwhile_is_taken(sandbox):
    tenant = TenantFactory()
    stale = Tenant.objects.get(pk=tenant.pk)
    ensure_customer(Stripe(), tenant)

    assert ensure_customer(Stripe(), stale) == tenant.stripe_customer_id

    assert len(sandbox.client().v1.customers.list({}).data) == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_at_once_a_tenant_becomes_one_customer(sandbox):
    tenant = TenantFactory()
    start = threading.Barrier(4)

    def ask(_: int) -> str:
        start.wait()
        try:
            return opened(tenant)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        urls = list(pool.map(ask, range(4)))

    assert len(set(urls)) == 4
    assert len(sandbox.client().v1.customers.list({}).data) == 1


def test_a_configuration_is_looked_up_once(subscriber, sandbox):
    opened(subscriber)
    opened(subscriber)

    assert len(sandbox.requests("GET", "billing_portal/configurations")) == 1


@pytest.mark.parametrize("wrong", ["switched off", "of another account"])
def test_a_configuration_that_is_of_no_use_any_more_is_replaced(
    subscriber, sandbox, wrong
):
    opened(subscriber)
    if wrong == "switched off":
        for each in configurations(sandbox):
            api = sandbox.client().v1.billing_portal.configurations
            api.update(each.id, {"active": False})
    else:
        cache.set("portal-configuration:tenant", "bpc_none", seconds=60)

    assert fetch(opened(subscriber)).status_code == 200


def test_without_redis_each_session_looks_it_up(subscriber, sandbox, no_redis):
    opened(subscriber)
    opened(subscriber)

    assert len(sandbox.requests("GET", "billing_portal/configurations")) == 2
    assert len(configurations(sandbox)) == 2


def test_a_customer_that_was_deleted_has_no_portal(subscriber, sandbox):
    sandbox.client().v1.customers.delete(subscriber.stripe_customer_id)

    with pytest.raises(CustomerGone):
        opened(subscriber)
    sync_tenant(tenant_id=subscriber.pk)

    assert fetch(opened(subscriber)).status_code == 200


def test_an_address_that_stripe_refuses_is_the_callers_mistake(subscriber, sandbox):
    sandbox.fault(
        "status",
        path="/sessions$",
        status=400,
        error={"type": "invalid_request_error", "param": "return_url"},
    )

    with pytest.raises(ReturnUrlInvalid):
        opened(subscriber)


def test_stripe_may_be_away(subscriber, sandbox):
    sandbox.fault("status", path="/sessions$", status=503, times=None)

    with pytest.raises(StripeUnavailable):
        opened(subscriber)


# --- who has the link of an invoice


def test_who_pays_an_invoice_gives_a_card_and_is_led_back(invoice, sandbox):
    url = card_session(invoice_id=invoice.pk, return_url=BACK)

    page = fetch(url).text
    saved = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert invoice.number not in words(page)
    assert 'id="invoices"' not in page
    assert f'content="0;url={BACK}"' in saved
    api = sandbox.client().v1
    assert api.payment_methods.list({"customer": invoice.stripe_customer_id}).data


def test_no_card_is_asked_for_when_nothing_is_to_be_paid(invoice, sandbox):
    InvoiceCollection.objects.update(stripe_status="paid", amount_remaining_cents=0)

    with pytest.raises(InvoiceNotOpen):
        card_session(invoice_id=invoice.pk, return_url=BACK)

    assert not sandbox.requests("POST", "billing_portal/sessions")


def test_no_card_is_asked_for_an_invoice_that_is_not_there(sandbox):
    with pytest.raises(UnknownInvoice):
        card_session(invoice_id="in_nothing", return_url=BACK)
