"""Prices that Stripe refuses to sell are left out, reported, and block nothing."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone
from structlog.testing import capture_logs

from billing.clients.stripe.errors import StripeAccountMismatch, StripeUnavailable
from billing.exceptions import DisputeUnknown
from billing.models import SubscriptionSync
from billing.services.customers.catalog import refresh_prices
from billing.services.subscriptions.refusals import alert_if_stuck
from billing.services.subscriptions.sync import SyncOutcome
from billing.tests.support.subscriptions import (
    SUBSCRIPTIONS_PATH,
    add_relay,
    all_subscriptions,
    live_items,
    pay_all_invoices,
    sync,
)
from relays.exceptions import PriceMissing
from relays.models import Plan, Relay
from relays.services import lifecycle
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

FAILED = SyncOutcome.FAILED
UNAUTHORIZED = {"message": "Invalid API Key", "type": "invalid_request_error"}


@pytest.fixture
def tenant(prices):
    return TenantFactory()


def no_price(sandbox, price_id):
    Plan.objects.filter(stripe_price_id=price_id).update(stripe_price_id=None)


def archived(sandbox, price_id):
    sandbox.client().v1.prices.update(price_id, {"active": False})


def archived_and_known(sandbox, price_id):
    archived(sandbox, price_id)
    refresh_prices()


def deleted(sandbox, price_id):
    plans = Plan.objects.filter(stripe_price_id=price_id)
    plans.update(stripe_price_id="price_gone")


UNSELLABLE = pytest.mark.parametrize(
    "unsell", [no_price, archived, archived_and_known, deleted]
)


def writes(sandbox):
    return [r for r in sandbox.requests() if r["method"] != "GET"]


def alerts(logs):
    return [log for log in logs if log["event"] == "plan_not_billed"]


@UNSELLABLE
def test_decrease_is_applied_although_another_plan_cannot_be_billed(
    sandbox, tenant, prices, unsell
):
    growth = add_relay(tenant, plan="growth")
    add_relay(tenant, plan="growth")
    sync(tenant)

    unsell(sandbox, prices["basic"])
    add_relay(tenant, plan="basic")
    lifecycle.deactivate_relay(relay_id=growth.pk)
    with capture_logs() as logs:
        row = sync(tenant, FAILED)

    assert live_items(sandbox, tenant) == {prices["growth"]: 1}
    assert row.last_error_code == "plan-price-missing"
    assert "basic" in row.last_error
    assert [log["plan"] for log in alerts(logs)] == ["basic"]


@UNSELLABLE
def test_subscription_is_cancelled_if_only_unbilled_relays_are_left(
    sandbox, tenant, prices, unsell
):
    growth = add_relay(tenant, plan="growth")
    sync(tenant)
    pay_all_invoices(sandbox)

    unsell(sandbox, prices["basic"])
    add_relay(tenant, plan="basic")
    lifecycle.deactivate_relay(relay_id=growth.pk)
    sync(tenant, FAILED)

    (ended,) = all_subscriptions(sandbox)
    assert ended.status == "canceled"
    assert tenant.stripe_subscription_id is None
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    assert -2500 <= customer.balance <= -2499


@UNSELLABLE
def test_increase_is_applied_although_another_plan_cannot_be_billed(
    sandbox, tenant, prices, unsell
):
    add_relay(tenant, plan="growth")
    sync(tenant)

    unsell(sandbox, prices["basic"])
    add_relay(tenant, plan="basic")
    add_relay(tenant, plan="growth")
    sync(tenant, FAILED)

    assert live_items(sandbox, tenant) == {prices["growth"]: 2}


@UNSELLABLE
def test_new_subscription_leaves_out_what_cannot_be_billed(
    sandbox, tenant, prices, unsell
):
    unsell(sandbox, prices["basic"])
    add_relay(tenant, plan="basic")
    add_relay(tenant, plan="growth")

    row = sync(tenant, FAILED)

    assert live_items(sandbox, tenant) == {prices["growth"]: 1}
    assert row.last_error_code == "plan-price-missing"


@UNSELLABLE
def test_nothing_is_created_if_nothing_can_be_billed(sandbox, tenant, prices, unsell):
    unsell(sandbox, prices["basic"])
    add_relay(tenant, plan="basic")

    with capture_logs() as logs:
        row = sync(tenant, FAILED)

    assert all_subscriptions(sandbox) == []
    assert row.last_error_code == "plan-price-missing"
    assert len(alerts(logs)) == 1


def test_item_with_archived_price_goes_on_and_follows_the_relays(
    sandbox, tenant, prices
):
    relay = add_relay(tenant)
    sync(tenant)
    archived_and_known(sandbox, prices["basic"])

    add_relay(tenant)
    sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 2}

    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 1}


def test_archived_price_whose_webhook_was_lost_is_not_sold_after_its_first_refusal(
    sandbox, tenant, prices
):
    archived(sandbox, prices["basic"])
    add_relay(tenant)
    sync(tenant, FAILED)
    assert not Plan.objects.get(pk="basic").is_sellable
    before = len(writes(sandbox))

    sync(tenant, FAILED)

    assert len(writes(sandbox)) == before


def test_relay_is_billed_once_its_price_is_active_again(sandbox, tenant, prices):
    archived(sandbox, prices["basic"])
    add_relay(tenant)
    sync(tenant, FAILED)

    sandbox.client().v1.prices.update(prices["basic"], {"active": True})
    refresh_prices()
    row = sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    assert (row.last_error, row.failures) == ("", 0)


def test_switching_unbilled_relay_off_ends_the_failure(sandbox, tenant, prices):
    archived(sandbox, prices["basic"])
    relay = add_relay(tenant)
    sync(tenant, FAILED)

    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)

    assert Relay.objects.billable().count() == 0


def test_currency_that_the_subscription_cannot_have_holds_nothing_back(
    sandbox, tenant, prices
):
    euro = sandbox.client().v1.prices.create(
        {
            "currency": "eur",
            "unit_amount": 500,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Euro"},
        }
    )
    Plan.objects.create(
        id="euro",
        name="Euro",
        amount_cents=500,
        currency="eur",
        stripe_price_id=euro.id,
    )
    relay = add_relay(tenant)
    add_relay(tenant)
    sync(tenant)

    add_relay(tenant, plan="euro")
    lifecycle.deactivate_relay(relay_id=relay.pk)
    row = sync(tenant, FAILED)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    assert "euro" in row.last_error


@pytest.mark.parametrize("existing", [True, False])
def test_refusal_that_is_about_no_item_is_reported_as_it_is(sandbox, tenant, existing):
    if existing:
        add_relay(tenant)
        sync(tenant)
    add_relay(tenant, plan="growth")
    add_relay(tenant)
    sandbox.fault(
        "status",
        path=SUBSCRIPTIONS_PATH,
        status=401,
        error=UNAUTHORIZED,
        times=None,
    )

    row = sync(tenant, FAILED)

    assert row.last_error_code == "stripe-refused"
    assert "Invalid API Key" in row.last_error


def test_support_is_alerted_when_a_sync_is_refused_again(sandbox, tenant):
    add_relay(tenant)
    sandbox.fault(
        "status",
        path=SUBSCRIPTIONS_PATH,
        status=401,
        error=UNAUTHORIZED,
        times=None,
    )
    with capture_logs() as first:
        sync(tenant, FAILED)
    with (
        time_machine.travel(timezone.now() + timedelta(minutes=1)),
        capture_logs() as second,
    ):
        sync(tenant, FAILED)

    assert [log for log in first if log["event"] == "sync_stuck"] == []
    (alert,) = [log for log in second if log["event"] == "sync_stuck"]
    assert alert["tenant"] == tenant.pk


@pytest.mark.parametrize("error", [StripeAccountMismatch, DisputeUnknown, PriceMissing])
def test_failure_with_an_alert_of_its_own_is_not_told_for_each_tenant(
    sandbox, tenant, error
):
    add_relay(tenant)
    SubscriptionSync.objects.filter(pk=tenant.pk).update(failures=100)

    with capture_logs() as logs:
        alert_if_stuck(tenant.pk, error("for all"))
        alert_if_stuck(tenant.pk, StripeUnavailable("no answer"))

    (alert,) = [log for log in logs if log["event"] == "sync_stuck"]
    assert "no answer" in alert["message"]
