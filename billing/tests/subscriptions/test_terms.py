"""Discounts and taxes of a subscription are carried over to the next one."""

import pytest
from structlog.testing import capture_logs

from billing.models import StripeEvent
from billing.services.events.process import process_event
from billing.services.subscriptions.sync import SyncOutcome
from billing.services.subscriptions.terms import stored_terms
from billing.tests.factories import StripeEventFactory
from billing.tests.support.subscriptions import (
    add_relay,
    collect_invoices,
    pay_all_invoices,
    sync,
)
from relays.services import lifecycle
from sandbox.tests.support.stripe import builders
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(sandbox, prices, clock):
    """A tenant that has paid the first month of its relay."""
    tenant = TenantFactory()
    add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    collect_invoices(tenant)
    return tenant


@pytest.fixture
def coupon(sandbox):
    """Create a coupon, by default of 50 % forever."""
    return lambda **terms: builders.coupon(sandbox.client(), **terms)


def redeem(sandbox, tenant, *coupons):
    """Give the current subscription discounts, as staff would in the dashboard."""
    sandbox.client().v1.subscriptions.update(
        tenant.stripe_subscription_id,
        {"discounts": [{"coupon": coupon.id} for coupon in coupons] or ""},
    )


def switch(tenant, service):
    for relay in tenant.relays.all():
        service(relay_id=relay.pk)


def replace_subscription(tenant):
    """Switch the relays off and on: Stripe ends and starts a subscription."""
    switch(tenant, lifecycle.deactivate_relay)
    sync(tenant)
    switch(tenant, lifecycle.activate_relay)
    sync(tenant)


def replace_and_pay(sandbox, tenant):
    replace_subscription(tenant)
    pay_all_invoices(sandbox)
    collect_invoices(tenant)


def current_discounts(sandbox, tenant):
    """Return the discounts of the current subscription, with their coupons."""
    found = sandbox.client().v1.subscriptions.retrieve(
        tenant.stripe_subscription_id, {"expand": ["discounts.source.coupon"]}
    )
    return list(found.discounts)


def coupons_of(sandbox, tenant):
    return [each.source.coupon for each in current_discounts(sandbox, tenant)]


def lost_terms(logs):
    return [log for log in logs if log["event"] == "discount_not_carried"]


def test_lasting_coupon_is_redeemed_for_the_next_subscription(sandbox, tenant, coupon):
    lasting = coupon()
    redeem(sandbox, tenant, lasting)
    first = tenant.stripe_subscription_id

    replace_subscription(tenant)

    assert tenant.stripe_subscription_id != first
    assert [each.id for each in coupons_of(sandbox, tenant)] == [lasting.id]
    newest = sandbox.client().v1.invoices.list({"limit": 1}).data[0]
    assert (newest.subtotal, newest.total) == (500, 250)


def test_several_coupons_keep_their_order(sandbox, tenant, coupon):
    fixed, share = coupon(amount_off=100, currency="usd"), coupon(percent_off=12.5)
    redeem(sandbox, tenant, fixed, share)

    replace_subscription(tenant)
    replace_subscription(tenant)

    assert [each.id for each in coupons_of(sandbox, tenant)] == [fixed.id, share.id]


def test_coupon_that_ended_externally_with_its_subscription_is_carried(
    sandbox, tenant, coupon
):
    lasting = coupon()
    redeem(sandbox, tenant, lasting)
    sync(tenant)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)
    sync(tenant, SyncOutcome.STALE)
    switch(tenant, lifecycle.activate_relay)

    sync(tenant)

    assert [each.id for each in coupons_of(sandbox, tenant)] == [lasting.id]


@pytest.mark.parametrize("kind", [{"percent_off": 30}, {"amount_off": 200}], ids=str)
def test_repeating_coupon_is_carried_for_the_months_that_are_left(
    sandbox, tenant, coupon, clock, kind
):
    """Of six months one is over, and a part of the second: five are left."""
    currency = {"currency": "usd"} if "amount_off" in kind else {}
    six = coupon(duration="repeating", duration_in_months=6, **kind, **currency)
    redeem(sandbox, tenant, six)
    (before,) = current_discounts(sandbox, tenant)
    clock.move(days=40)
    pay_all_invoices(sandbox)

    replace_subscription(tenant)

    (after,) = current_discounts(sandbox, tenant)
    copy = after.source.coupon
    assert (copy.percent_off, copy.amount_off) == (six.percent_off, six.amount_off)
    assert (copy.duration, copy.duration_in_months) == ("repeating", 5)
    assert 0 <= after.end - before.end < 31 * 86_400


def test_replacing_a_subscription_often_does_not_extend_a_repeating_coupon(
    sandbox, tenant, coupon, clock
):
    redeem(sandbox, tenant, coupon(duration="repeating", duration_in_months=2))
    (first,) = current_discounts(sandbox, tenant)

    for _ in range(4):
        clock.move(days=14)
        replace_and_pay(sandbox, tenant)
    (last,) = current_discounts(sandbox, tenant)
    clock.move(days=14)
    replace_and_pay(sandbox, tenant)

    assert last.end - first.end < 31 * 86_400
    assert current_discounts(sandbox, tenant) == []


def test_repeating_coupon_that_is_over_is_not_carried(sandbox, tenant, coupon, clock):
    redeem(sandbox, tenant, coupon(duration="repeating", duration_in_months=1))
    sync(tenant)
    switch(tenant, lifecycle.deactivate_relay)
    sync(tenant)
    clock.move(days=32)
    switch(tenant, lifecycle.activate_relay)

    with capture_logs() as logs:
        sync(tenant)

    assert current_discounts(sandbox, tenant) == []
    assert lost_terms(logs) == []


def test_coupon_for_one_invoice_that_is_consumed_is_not_carried(
    sandbox, tenant, coupon, clock
):
    redeem(sandbox, tenant, coupon(duration="once"))
    clock.move(days=32)

    replace_subscription(tenant)

    assert current_discounts(sandbox, tenant) == []


def test_coupon_that_was_removed_by_a_person_is_not_carried(sandbox, tenant, coupon):
    redeem(sandbox, tenant, coupon())
    sync(tenant)
    redeem(sandbox, tenant)

    replace_subscription(tenant)

    assert current_discounts(sandbox, tenant) == []


def test_coupon_on_the_new_subscription_removed_by_a_person_stays_removed(
    sandbox, tenant, coupon
):
    redeem(sandbox, tenant, coupon())
    replace_subscription(tenant)
    redeem(sandbox, tenant)

    sync(tenant)

    assert current_discounts(sandbox, tenant) == []
    assert stored_terms(tenant.pk)["discounts"] == []


def test_event_about_a_new_discount_stores_it(sandbox, tenant, coupon):
    lasting = coupon()
    redeem(sandbox, tenant, lasting)
    event = StripeEventFactory(
        object={
            "id": tenant.stripe_subscription_id,
            "customer": tenant.stripe_customer_id,
        }
    )

    process_event(event_id=event.pk)

    assert StripeEvent.objects.get(pk=event.pk).outcome == "matches the relays"
    (stored,) = stored_terms(tenant.pk)["discounts"]
    assert (stored["coupon"], stored["end"]) == (lasting.id, None)


def test_discounts_are_read_only_when_they_change(sandbox, tenant, coupon):
    redeem(sandbox, tenant, coupon())
    sync(tenant)
    before = len(sandbox.requests())
    sync(tenant)
    with_discount = len(sandbox.requests()) - before

    redeem(sandbox, tenant)
    sync(tenant)
    before = len(sandbox.requests())
    sync(tenant)

    assert with_discount == len(sandbox.requests()) - before


def test_deleted_coupon_is_reported_and_the_subscription_created_without_it(
    sandbox, tenant, coupon
):
    gone, kept = coupon(), coupon(percent_off=10)
    redeem(sandbox, tenant, gone, kept)
    sync(tenant)
    sandbox.client().v1.coupons.delete(gone.id)

    with capture_logs() as logs:
        replace_subscription(tenant)

    assert [each.id for each in coupons_of(sandbox, tenant)] == [kept.id]
    (alert,) = lost_terms(logs)
    assert alert["tenant"] == tenant.pk
    assert gone.id in alert["message"]


def test_discount_of_one_invoice_is_not_carried_over_twice(sandbox, tenant, coupon):
    """The subscriptions end at Stripe, and no event says what was used up."""
    redeem(sandbox, tenant, coupon(amount_off=100, currency="usd", duration="once"))
    sync(tenant)

    for _ in range(2):
        sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)
        switch(tenant, lifecycle.deactivate_relay)
        sync(tenant)
        switch(tenant, lifecycle.activate_relay)
        sync(tenant)

    newest = sandbox.client().v1.invoices.list({}).data
    regular = [i.total for i in newest if i.billing_reason == "subscription_create"]
    assert regular == [500, 400, 500]


def test_coupon_that_can_be_redeemed_once_is_copied_for_its_tenant(
    sandbox, tenant, coupon
):
    personal = coupon(max_redemptions=1)
    redeem(sandbox, tenant, personal)

    replace_subscription(tenant)
    replace_subscription(tenant)

    (copy,) = coupons_of(sandbox, tenant)
    assert copy.id != personal.id
    assert (copy.percent_off, copy.duration) == (50, "forever")


def test_coupon_that_stripe_refuses_is_reported_and_left_out(sandbox, tenant, coupon):
    lasting = coupon()
    redeem(sandbox, tenant, lasting)
    switch(tenant, lifecycle.deactivate_relay)
    sync(tenant)
    switch(tenant, lifecycle.activate_relay)
    sandbox.fault(
        "status",
        path="/v1/subscriptions",
        status=400,
        error={
            "message": "Coupon expired",
            "type": "invalid_request_error",
            "param": "discounts[0][coupon]",
        },
    )

    with capture_logs() as logs:
        sync(tenant)

    assert current_discounts(sandbox, tenant) == []
    assert len(lost_terms(logs)) == 1


def test_tax_rates_are_carried(sandbox, tenant):
    rate = builders.tax_rate(sandbox.client())
    sandbox.client().v1.subscriptions.update(
        tenant.stripe_subscription_id, {"default_tax_rates": [rate.id]}
    )

    replace_subscription(tenant)

    newest = sandbox.client().v1.invoices.list({"limit": 1}).data[0]
    assert newest.total == 600


def test_archived_tax_rate_is_reported_and_left_out(sandbox, tenant):
    rate = builders.tax_rate(sandbox.client())
    sandbox.client().v1.subscriptions.update(
        tenant.stripe_subscription_id, {"default_tax_rates": [rate.id]}
    )
    sync(tenant)
    sandbox.client().v1.tax_rates.update(rate.id, {"active": False})

    with capture_logs() as logs:
        replace_subscription(tenant)

    newest = sandbox.client().v1.invoices.list({"limit": 1}).data[0]
    assert newest.total == 500
    assert len(lost_terms(logs)) == 1


def test_tax_rate_of_an_item_is_reported(sandbox, tenant):
    rate = builders.tax_rate(sandbox.client())
    subscription = sandbox.client().v1.subscriptions.retrieve(
        tenant.stripe_subscription_id
    )
    sandbox.client().v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": subscription["items"].data[0].id, "tax_rates": [rate.id]}]},
    )

    with capture_logs() as logs:
        replace_subscription(tenant)

    (alert,) = lost_terms(logs)
    assert rate.id in alert["message"]
