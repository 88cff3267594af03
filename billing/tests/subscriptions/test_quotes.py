"""Quotes of plan changes, and the changes at the quoted amounts."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.exceptions import (
    InvalidQuote,
    QuoteChanged,
    QuoteExpired,
    QuoteNotReady,
)
from billing.models import SubscriptionSync
from billing.services.subscriptions.quotes import (
    LIFETIME,
    change_plan_as_quoted,
    quote_plan_change,
)
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.subscriptions import (
    add_relay,
    all_subscriptions,
    collect_invoices,
    live_items,
    pay_all_invoices,
    sync,
)
from relays.exceptions import PaymentOverdue, PriceMissing, UnknownPlan
from relays.models import Plan, Relay
from relays.services import lifecycle
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(prices):
    return TenantFactory()


@pytest.fixture
def travel(sandbox):
    """Move the clock, which the sandbox in this process follows."""
    with time_machine.travel(timezone.now(), tick=False) as clock:

        def move(**delta: float) -> None:
            clock.shift(timedelta(**delta))
            sandbox.advance(0)

        yield move


@pytest.fixture
def birds(sandbox, travel, tenant):
    """A relay on the basic plan, ten days into its period."""
    relay = add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    collect_invoices(tenant)
    travel(days=10)
    return relay


def pending_cents(sandbox, tenant) -> list[int]:
    items = sandbox.client().v1.invoice_items.list(
        {
            "customer": Tenant.objects.get(pk=tenant.pk).stripe_customer_id,
            "limit": 100,
        }
    )
    return sorted(item.amount for item in items.data)


def accept(quote, **fields):
    return change_plan_as_quoted(
        quote_id=quote.id, relay_id=quote.relay_id, plan_id=quote.plan_id, **fields
    )


def writes(sandbox):
    return [
        f"{each['method']} {each['path']}"
        for each in sandbox.requests()
        if each["method"] != "GET" and not each["path"].endswith("/create_preview")
    ]


# --- the quote


def test_upgrade_is_quoted_for_the_rest_of_the_period_and_for_each_renewal(birds):
    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")

    now, renewal = quote.preview.now, quote.preview.renewal
    # From $5 to $25 for 18 of 28 to 21 of 31 days.
    assert 1_280 <= now.amount_cents <= 1_360
    assert len(now.lines) == 2
    assert renewal.amount_cents == 2_500
    assert now.at and now.at == renewal.at
    assert now.at > timezone.now() + timedelta(days=17)
    assert quote.preview.currency == "usd"


def test_quote_changes_nothing_here_and_at_stripe(sandbox, birds, tenant):
    row, version = Relay.objects.values().get(), SubscriptionSync.objects.values().get()
    before = writes(sandbox)

    for plan in ("growth", "free"):
        quote_plan_change(relay_id=birds.pk, plan_id=plan)

    assert writes(sandbox) == before
    assert Relay.objects.values().get() == row
    assert SubscriptionSync.objects.values().get() == version
    assert pending_cents(sandbox, tenant) == []


def test_downgrade_is_quoted_as_a_credit(birds, tenant, travel):
    lifecycle.change_plan(relay_id=birds.pk, plan_id="growth")
    sync(tenant)

    quote = quote_plan_change(relay_id=birds.pk, plan_id="basic")

    assert -1_360 <= quote.preview.now.amount_cents <= -1_280
    assert quote.preview.renewal.amount_cents == 500


def test_other_relays_are_part_of_the_renewal_but_not_of_the_change(birds, tenant):
    alone = quote_plan_change(relay_id=birds.pk, plan_id="growth")
    add_relay(tenant)
    sync(tenant)

    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")

    # Instead of the second basic relay's debit, which is pending.
    assert abs(quote.preview.now.amount_cents - alone.preview.now.amount_cents) <= 1
    assert quote.preview.renewal.amount_cents == 2_500 + 500


@pytest.mark.parametrize("has_customer", [True, False])
def test_first_paid_plan_is_quoted_for_the_whole_first_period(
    tenant, travel, has_customer
):
    relay = add_relay(tenant, "free")
    if has_customer:
        paid = add_relay(tenant)
        sync(tenant)
        lifecycle.deactivate_relay(relay_id=paid.pk)
    sync(tenant)

    quote = quote_plan_change(relay_id=relay.pk, plan_id="basic")

    assert quote.preview.now.amount_cents == 500
    assert quote.preview.now.at == timezone.now().replace(microsecond=0)
    assert quote.preview.renewal.amount_cents == 500
    assert bool(quote.preview.renewal.at) is has_customer


def test_end_of_the_subscription_is_quoted_as_its_final_invoice(birds):
    quote = quote_plan_change(relay_id=birds.pk, plan_id="free")

    assert -350 <= quote.preview.now.amount_cents <= -320
    assert quote.preview.now.at == timezone.now().replace(microsecond=0)
    assert quote.preview.renewal.amount_cents == 0
    assert quote.preview.renewal.at is None


def test_plan_of_an_inactive_relay_costs_nothing_until_it_is_on(birds, tenant):
    other = add_relay(tenant, status=Relay.Status.INACTIVE)
    sync(tenant)

    quote = quote_plan_change(relay_id=other.pk, plan_id="growth")

    assert quote.preview.now.amount_cents == 0 and quote.preview.now.at is None
    assert quote.preview.renewal.amount_cents == 500


def test_many_pending_changes_leave_the_quote_exact(birds, tenant, travel, sandbox):
    for plan in ("growth", "basic") * 4:
        travel(hours=1)
        lifecycle.change_plan(relay_id=birds.pk, plan_id=plan)
        sync(tenant)
    travel(hours=1)
    before = sum(pending_cents(sandbox, tenant))

    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")
    accept(quote)
    sync_tenant(tenant_id=tenant.pk)

    assert quote.preview.renewal.amount_cents == 2_500
    charged = sum(pending_cents(sandbox, tenant)) - before
    assert charged == quote.preview.now.amount_cents


@pytest.mark.parametrize(
    ("plan", "error"), [("gold", UnknownPlan), ("growth", PriceMissing)]
)
def test_change_that_would_be_refused_is_not_quoted(birds, plan, error):
    Plan.objects.filter(pk="growth").update(price_problem="archived")

    with pytest.raises(error):
        quote_plan_change(relay_id=birds.pk, plan_id=plan)


def test_upgrade_is_not_quoted_while_an_invoice_is_overdue(birds, tenant):
    Tenant.objects.filter(pk=tenant.pk).update(payment_overdue_since=timezone.now())

    with pytest.raises(PaymentOverdue):
        quote_plan_change(relay_id=birds.pk, plan_id="growth")


def test_nothing_is_quoted_before_an_earlier_change_has_reached_stripe(birds, tenant):
    add_relay(tenant)

    with pytest.raises(QuoteNotReady):
        quote_plan_change(relay_id=birds.pk, plan_id="growth")


# --- the change at the quoted amount


def test_charge_is_exactly_the_quoted_amount_however_late_the_sync(
    sandbox, birds, tenant, travel, prices
):
    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")
    travel(minutes=9)

    relay = accept(quote, name="Birds")
    # As after an outage of Stripe.
    travel(hours=30)
    sync_tenant(tenant_id=tenant.pk)

    assert (relay.plan_id, relay.name) == ("growth", "Birds")
    tenant.refresh_from_db()
    assert live_items(sandbox, tenant) == {prices["growth"]: 1}
    assert sum(pending_cents(sandbox, tenant)) == quote.preview.now.amount_cents


def test_credit_is_that_of_the_time_of_the_change(sandbox, birds, tenant, travel):
    lifecycle.change_plan(relay_id=birds.pk, plan_id="growth")
    sync(tenant)
    before = sum(pending_cents(sandbox, tenant))
    quote = quote_plan_change(relay_id=birds.pk, plan_id="basic")
    travel(seconds=5)

    accept(quote)
    travel(hours=30)
    sync_tenant(tenant_id=tenant.pk)

    credited = sum(pending_cents(sandbox, tenant)) - before
    assert credited == quote.preview.now.amount_cents


def test_credit_that_has_shrunk_since_the_quote_is_refused(birds, tenant, travel):
    lifecycle.change_plan(relay_id=birds.pk, plan_id="growth")
    sync(tenant)
    quote = quote_plan_change(relay_id=birds.pk, plan_id="basic")
    # A cent of $20 a month is up to 23 minutes.
    for _ in range(25):
        travel(minutes=1)
        again = quote_plan_change(relay_id=birds.pk, plan_id="basic")
        if again.preview.amounts != quote.preview.amounts:
            break
        quote = again

    with pytest.raises(QuoteChanged):
        accept(quote)


def test_other_amount_than_quoted_is_refused_and_changes_nothing(
    sandbox, birds, tenant, travel
):
    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")
    coupon = sandbox.client().v1.coupons.create(
        {"percent_off": 50, "duration": "forever"}
    )
    tenant.refresh_from_db()
    sandbox.client().v1.subscriptions.update(
        tenant.stripe_subscription_id, {"discounts": [{"coupon": coupon.id}]}
    )

    with pytest.raises(QuoteChanged):
        accept(quote, name="Birds")

    birds.refresh_from_db()
    assert (birds.plan_id, birds.name) == ("basic", "")


def test_quote_of_a_change_beside_another_one_is_refused(birds, tenant):
    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")
    add_relay(tenant)

    with pytest.raises(QuoteNotReady):
        accept(quote)
    sync(tenant)
    with pytest.raises(QuoteChanged):
        accept(quote)


def test_another_change_before_the_sync_is_not_dated_back(
    sandbox, birds, tenant, travel
):
    other = add_relay(tenant)
    sync(tenant)
    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")
    travel(minutes=9)
    accept(quote)
    lifecycle.deactivate_relay(relay_id=other.pk)

    sync_tenant(tenant_id=tenant.pk)

    items = sandbox.client().v1.invoice_items.list({"limit": 100}).data
    now = int(timezone.now().timestamp())
    assert max(item.period.start for item in items) == now


def test_nothing_is_dated_back_once_another_relay_was_on_and_off(
    sandbox, birds, tenant, travel
):
    # Else its credit would be dated back to before its debit.
    accept(quote_plan_change(relay_id=birds.pk, plan_id="growth"))
    travel(minutes=9)
    other = add_relay(tenant, "growth")
    lifecycle.deactivate_relay(relay_id=other.pk)

    sync_tenant(tenant_id=tenant.pk)

    items = sandbox.client().v1.invoice_items.list({"limit": 100}).data
    assert {item.period.start for item in items} == {int(timezone.now().timestamp())}


def test_date_of_a_quote_is_used_once(sandbox, birds, tenant, travel):
    accept(quote_plan_change(relay_id=birds.pk, plan_id="growth"))
    sync_tenant(tenant_id=tenant.pk)
    for plan in ("basic", "growth"):
        travel(hours=1)
        lifecycle.change_plan(relay_id=birds.pk, plan_id=plan)
        sync_tenant(tenant_id=tenant.pk)

    items = sandbox.client().v1.invoice_items.list({"limit": 100}).data
    assert len({item.period.start for item in items}) == 3


def test_quote_is_valid_for_ten_minutes_and_for_its_relay_and_plan(
    birds, tenant, travel
):
    other = add_relay(tenant)
    sync(tenant)
    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")

    for wrong in (
        {"quote_id": quote.id, "relay_id": other.pk, "plan_id": "growth"},
        {"quote_id": quote.id, "relay_id": birds.pk, "plan_id": "free"},
        {"quote_id": quote.id[:-1], "relay_id": birds.pk, "plan_id": "growth"},
        {"quote_id": "", "relay_id": birds.pk, "plan_id": "growth"},
    ):
        with pytest.raises(InvalidQuote):
            change_plan_as_quoted(**wrong)
    travel(seconds=LIFETIME.total_seconds() + 1)
    with pytest.raises(QuoteExpired):
        accept(quote)


def test_quote_from_before_a_renewal_is_refused_after_it(birds, tenant, travel):
    end = quote_plan_change(relay_id=birds.pk, plan_id="growth").preview.renewal.at
    assert end is not None
    travel(seconds=(end - timezone.now()).total_seconds() - 120)
    quote = quote_plan_change(relay_id=birds.pk, plan_id="growth")
    travel(minutes=5)
    collect_invoices(tenant)

    with pytest.raises(QuoteChanged):
        accept(quote)


def test_renewal_before_the_sync_bills_the_change_from_then(
    sandbox, birds, tenant, travel
):
    end = quote_plan_change(relay_id=birds.pk, plan_id="growth").preview.renewal.at
    assert end is not None
    travel(seconds=(end - timezone.now()).total_seconds() - 120)
    accept(quote_plan_change(relay_id=birds.pk, plan_id="growth"))
    travel(minutes=5)

    # Stripe would refuse the date of the quote, for good.
    sync_tenant(tenant_id=tenant.pk)

    assert not SubscriptionSync.objects.get(pk=tenant.pk).is_stale
    (subscription,) = all_subscriptions(sandbox)
    assert [item.quantity for item in subscription.items.data] == [1]
    assert sum(pending_cents(sandbox, tenant)) > 1_990


def test_subscription_that_ends_as_quoted_gives_the_quoted_credit(
    sandbox, birds, tenant, travel
):
    quote = quote_plan_change(relay_id=birds.pk, plan_id="free")

    accept(quote)
    sync_tenant(tenant_id=tenant.pk)

    (subscription,) = all_subscriptions(sandbox)
    assert subscription.status == "canceled"
    final = sandbox.client().v1.invoices.retrieve(str(subscription.latest_invoice))
    assert final.total == quote.preview.now.amount_cents
