"""A tenant's name and e-mail address at Stripe follow the tenant."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import connection
from django.urls import reverse

from billing.models import StripeWrite, SubscriptionSync
from billing.services.subscriptions.sync import SyncOutcome
from billing.tests.support.subscriptions import add_relay, sync
from tenants.models import Tenant
from tenants.services.tenants import update_tenant
from tenants.tests.factories import TenantFactory, confirm_address

pytestmark = pytest.mark.django_db

MIGRATION = import_module("billing.migrations.0010_account")


@pytest.fixture
def tenant(prices):
    tenant = TenantFactory(display_name="Alice", email="alice@example.com")
    confirm_address(tenant)
    add_relay(tenant)
    sync(tenant)
    return tenant


def change(tenant, **fields):
    """Change the tenant as the API does, and sync if that enqueues a sync.

    A new address is confirmed by its owner.
    """
    update_tenant(pubkey=tenant.pk, **fields)
    if fields.get("email"):
        confirm_address(tenant)
    if SubscriptionSync.objects.get(pk=tenant.pk).is_stale:
        sync(tenant)


def edit_at_stripe(sandbox, tenant, **fields):
    sandbox.client().v1.customers.update(tenant.stripe_customer_id, fields)


def at_stripe(sandbox, tenant):
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    return customer.name, customer.email


def customer_requests(sandbox):
    return [
        request["method"]
        for request in sandbox.requests()
        if request["path"].startswith("/v1/customers/")
    ]


def refuse_email(sandbox, path, **fault):
    error = {"message": "Invalid email address.", "param": "email"}
    sandbox.fault("status", path=path, status=400, error=error, **fault)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"email": "new@example.com"}, ("Alice", "new@example.com")),
        ({"display_name": "Bob"}, ("Bob", "alice@example.com")),
        ({"display_name": "B", "email": "b@b.example"}, ("B", "b@b.example")),
    ],
)
def test_changed_name_and_address_reach_stripe(sandbox, tenant, fields, expected):
    change(tenant, **fields)

    assert at_stripe(sandbox, tenant) == expected


def test_stripe_gets_an_address_only_when_its_owner_has_confirmed_it(sandbox, tenant):
    """Stripe writes to its customers, so a stranger's address must not get there."""
    update_tenant(pubkey=tenant.pk, email="stranger@example.com")
    tenant.refresh_from_db()
    sync(tenant)
    unconfirmed = at_stripe(sandbox, tenant)[1]

    confirm_address(tenant)
    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale
    sync(tenant)

    assert unconfirmed == f"{tenant.npub}@tenants.caravel.example"
    assert at_stripe(sandbox, tenant)[1] == "stranger@example.com"


def test_removed_name_and_address_become_placeholders(sandbox, tenant):
    change(tenant, display_name="", email="")

    name, email = at_stripe(sandbox, tenant)
    assert name.startswith("npub1")
    assert email == f"{tenant.npub}@tenants.caravel.example"


def test_name_and_address_that_did_not_change_need_no_request(sandbox, tenant):
    before = customer_requests(sandbox)

    sync(tenant)
    change(tenant, autopay_paused=True)

    assert customer_requests(sandbox) == before


def test_edit_by_staff_at_stripe_stays(sandbox, tenant):
    edit_at_stripe(sandbox, tenant, name="Alice Ltd", email="pay@alice.example")

    sync(tenant)

    assert at_stripe(sandbox, tenant) == ("Alice Ltd", "pay@alice.example")


def test_later_change_here_replaces_an_edit_by_staff_and_nothing_else(sandbox, tenant):
    edit_at_stripe(sandbox, tenant, name="Alice Ltd", email="pay@alice.example")

    change(tenant, email="new@example.com")

    assert at_stripe(sandbox, tenant) == ("Alice Ltd", "new@example.com")


def test_address_that_staff_entered_first_is_not_sent_again(sandbox, tenant):
    edit_at_stripe(sandbox, tenant, email="new@example.com")
    before = customer_requests(sandbox).count("POST")

    change(tenant, email="new@example.com")
    sync(tenant)

    assert customer_requests(sandbox).count("POST") == before


def test_refused_address_becomes_the_placeholder_and_is_sent_once(sandbox, tenant):
    refuse_email(sandbox, "/v1/customers/", times=1)

    change(tenant, display_name="Bob", email="odd@example.com")
    before = customer_requests(sandbox)
    sync(tenant)

    placeholder = f"{tenant.npub}@tenants.caravel.example"
    assert at_stripe(sandbox, tenant) == ("Bob", placeholder)
    assert customer_requests(sandbox) == [*before, "GET"]
    change(tenant, email="good@example.com")
    assert at_stripe(sandbox, tenant) == ("Bob", "good@example.com")


def test_address_that_was_refused_at_creation_is_not_sent_until_it_changes(
    sandbox, prices
):
    tenant = TenantFactory(email="odd@example.com")
    confirm_address(tenant)
    refuse_email(sandbox, "^/v1/customers$", times=1)
    add_relay(tenant)

    for _ in range(2):
        sync(tenant)

    _, email = at_stripe(sandbox, tenant)
    assert email == f"{tenant.npub}@tenants.caravel.example"
    change(tenant, email="good@example.com")
    assert at_stripe(sandbox, tenant)[1] == "good@example.com"


def test_refusal_of_the_name_does_not_stop_billing(sandbox, tenant, caplog):
    error = {"message": "Not this name.", "param": "name"}
    sandbox.fault("status", path="^/v1/customers/", status=400, error=error, times=9)
    add_relay(tenant)

    change(tenant, display_name="Bob")

    assert "stripe_refused_customer_details" in caplog.text
    [subscription] = sandbox.client().v1.subscriptions.list({}).data
    assert [item.quantity for item in subscription.items.data] == [2]


def test_change_is_retried_until_stripe_has_it(sandbox, tenant):
    sandbox.fault("status", path="^/v1/customers/", times=3)
    update_tenant(pubkey=tenant.pk, email="new@example.com")
    confirm_address(tenant)
    sync(tenant, SyncOutcome.FAILED)

    sync(tenant)

    assert at_stripe(sandbox, tenant) == ("Alice", "new@example.com")


def test_change_of_a_tenant_without_a_customer_waits_for_it(sandbox, prices):
    tenant = TenantFactory(email="a@example.com")
    update_tenant(pubkey=tenant.pk, email="b@example.com")
    confirm_address(tenant)
    assert not SubscriptionSync.objects.filter(pk=tenant.pk).exists()

    add_relay(tenant)
    sync(tenant)

    _, email = at_stripe(sandbox, tenant)
    assert email == "b@example.com"


def test_change_during_the_creation_reaches_stripe(sandbox, prices):
    tenant = TenantFactory(email="a@example.com")
    add_relay(tenant)
    sandbox.fault("status", path="^/v1/customers$", when="after", times=3)
    sync(tenant, SyncOutcome.FAILED)
    update_tenant(pubkey=tenant.pk, email="b@example.com")
    confirm_address(tenant)

    sync(tenant)

    _, email = at_stripe(sandbox, tenant)
    assert email == "b@example.com"


def test_customer_that_was_deleted_meanwhile_is_created_with_the_new_address(
    sandbox, tenant
):
    first = tenant.stripe_customer_id
    sandbox.client().v1.customers.delete(first)

    change(tenant, email="new@example.com")

    assert tenant.stripe_customer_id != first
    assert at_stripe(sandbox, tenant) == ("Alice", "new@example.com")


def test_address_that_support_changes_in_the_admin_reaches_stripe(
    sandbox, tenant, admin_client
):
    form = {"display_name": "Alice", "email": "support@example.com"}

    url = reverse("admin:tenants_tenant_change", args=[tenant.pk])
    assert admin_client.post(url, form).status_code == 302
    confirm_address(tenant)
    sync(tenant)

    assert at_stripe(sandbox, tenant) == ("Alice", "support@example.com")


def test_migration_notes_what_customers_were_created_with(sandbox, tenant):
    """An address that changed before the update of Caravel reaches Stripe, too."""
    SubscriptionSync.objects.update(customer_name="", customer_email="")
    Tenant.objects.update(email="changed@example.com")
    edit_at_stripe(sandbox, tenant, name="Alice Ltd")
    assert StripeWrite.objects.filter(kind="customer.create").count() == 1

    MIGRATION.record_given_details(apps, SimpleNamespace(connection=connection))
    sync(tenant)

    assert at_stripe(sandbox, tenant) == ("Alice Ltd", "changed@example.com")


@pytest.mark.parametrize(
    "change", [{"payment_notices": True}, {"time_zone": "Europe/Berlin"}, {"email": ""}]
)
def test_change_that_stripe_does_not_show_starts_no_sync(tenant, change):
    sync(tenant)

    update_tenant(pubkey=tenant.pk, **change)

    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale is ("email" in change)
