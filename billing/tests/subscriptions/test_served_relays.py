"""Paid relays are billed from the first proof that they run."""

import pytest
from django.utils import timezone

from billing.models import SubscriptionSync
from billing.services.subscriptions.quotes import (
    change_plan_as_quoted,
    quote_plan_change,
)
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.subscriptions import (
    add_relay,
    all_subscriptions,
    live_items,
    sync,
)
from relays.models import Plan, Relay
from relays.services import lifecycle
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _served_only(settings):
    settings.BILLING_SERVED_RELAYS_ONLY = True


@pytest.fixture
def tenant(prices):
    return TenantFactory()


def serve(relay: Relay) -> None:
    """Store the first proof as the sync with zooid does."""
    relay.first_served_at = relay.served_at = timezone.now()
    relay.save(update_fields=["first_served_at", "served_at"])


def sync_if_stale(tenant):
    sync_tenant(tenant_id=tenant.pk)
    return Tenant.objects.get(pk=tenant.pk)


def basic_price() -> str | None:
    return Plan.objects.get(pk="basic").stripe_price_id


def test_relay_that_was_never_served_has_no_subscription(sandbox, tenant):
    add_relay(tenant)

    sync(tenant)

    assert all_subscriptions(sandbox) == []
    assert tenant.stripe_customer_id is None


def test_first_proof_starts_the_subscription(sandbox, tenant):
    relay = add_relay(tenant)
    sync(tenant)

    serve(relay)

    assert live_items(sandbox, sync_if_stale(tenant)) == {basic_price(): 1}


def test_second_relay_is_added_by_its_own_proof(sandbox, tenant):
    serve(add_relay(tenant))
    second = add_relay(tenant)
    sync(tenant)
    assert live_items(sandbox, tenant) == {basic_price(): 1}

    serve(second)

    assert live_items(sandbox, sync_if_stale(tenant)) == {basic_price(): 2}


def test_later_proofs_and_outages_change_nothing_at_stripe(sandbox, tenant):
    relay = add_relay(tenant)
    serve(relay)
    sync(tenant)
    before = len(sandbox.requests())

    relay.served_at, relay.synced = timezone.now(), True
    relay.save(update_fields=["served_at", "synced"])
    relay.dark_at, relay.sync_error = timezone.now(), "It does not answer."
    relay.save(update_fields=["dark_at", "sync_error"])
    sync_if_stale(tenant)

    assert len(sandbox.requests()) == before
    sync(tenant)
    assert live_items(sandbox, tenant) == {basic_price(): 1}


def test_relay_served_on_a_free_plan_is_billed_at_once_on_a_paid_one(sandbox, tenant):
    relay = add_relay(tenant, "free")
    serve(relay)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="basic")

    assert live_items(sandbox, sync_if_stale(tenant)) == {basic_price(): 1}


def test_relay_that_was_on_before_is_billed_at_once_when_it_returns(sandbox, tenant):
    relay = add_relay(tenant)
    serve(relay)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)

    lifecycle.activate_relay(relay_id=relay.pk)

    assert live_items(sandbox, sync_if_stale(tenant)) == {basic_price(): 1}


def test_subscription_without_the_relay_does_not_switch_it_off(sandbox, tenant):
    """Our own end of a subscription says nothing about a relay that was not billed."""
    billed, waiting = add_relay(tenant), add_relay(tenant)
    serve(billed)
    sync(tenant)

    lifecycle.deactivate_relay(relay_id=billed.pk)
    sync_if_stale(tenant)
    sync(tenant)

    assert [each.status for each in all_subscriptions(sandbox)] == ["canceled"]
    assert Relay.objects.get(pk=waiting.pk).status == "active"


def test_without_the_setting_relays_are_billed_unseen(sandbox, tenant, settings):
    settings.BILLING_SERVED_RELAYS_ONLY = False
    add_relay(tenant)

    sync(tenant)

    assert live_items(sandbox, tenant) == {basic_price(): 1}


# --- quotes


def test_relay_that_never_ran_is_quoted_as_if_it_ran_now(sandbox, tenant):
    relay = add_relay(tenant)
    sync(tenant)

    quote = quote_plan_change(relay_id=relay.pk, plan_id="growth")

    assert quote.starts_when_served
    assert quote.preview.now.amount_cents == quote.preview.renewal.amount_cents == 2_500
    relay.refresh_from_db()
    assert (relay.plan_id, relay.first_served_at) == ("basic", None)


def test_quote_beside_a_billed_relay_is_for_the_rest_of_its_period(sandbox, tenant):
    serve(add_relay(tenant))
    waiting = add_relay(tenant)
    sync(tenant)

    quote = quote_plan_change(relay_id=waiting.pk, plan_id="growth")

    assert 2_490 <= quote.preview.now.amount_cents <= 2_500
    assert quote.preview.renewal.amount_cents == 2_500 + 500


def test_quoted_change_of_a_relay_that_never_ran_is_charged_from_its_proof(
    sandbox, tenant
):
    relay = add_relay(tenant)
    sync(tenant)
    quote = quote_plan_change(relay_id=relay.pk, plan_id="growth")

    changed = change_plan_as_quoted(
        quote_id=quote.id, relay_id=relay.pk, plan_id="growth"
    )
    sync_if_stale(tenant)

    assert all_subscriptions(sandbox) == []
    # Nothing is dated back to the quote.
    assert SubscriptionSync.objects.get(pk=tenant.pk).quoted == {}
    serve(changed)
    sync_if_stale(tenant)
    (subscription,) = all_subscriptions(sandbox)
    invoice = sandbox.client().v1.invoices.retrieve(str(subscription.latest_invoice))
    assert invoice.total == quote.preview.now.amount_cents


def test_move_to_a_free_plan_does_not_wait_for_a_proof(sandbox, tenant):
    relay = add_relay(tenant)
    sync(tenant)

    quote = quote_plan_change(relay_id=relay.pk, plan_id="free")

    assert not quote.starts_when_served
    assert quote.preview.now.amount_cents == quote.preview.renewal.amount_cents == 0
