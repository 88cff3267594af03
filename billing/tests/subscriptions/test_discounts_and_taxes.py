"""Served time costs the price after discounts, with taxes, to the rounded line."""

from fractions import Fraction

import pytest
from django.utils import timezone

from billing.models import Credit, InvoiceCollection
from billing.services.credits.posting import post_credits
from billing.services.dunning.suspension import review_tenant
from billing.tests.support.subscriptions import (
    add_relay,
    finalize_drafts,
    pay_all_invoices,
    post_collect_and_sync,
    sync,
    sync_until_in_sync,
)
from relays.services import lifecycle
from sandbox.tests.support.stripe import builders
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

DAY = 24 * 3600


@pytest.fixture(scope="module")
def _saved_subscription(_saved_tenant, django_db_blocker):
    with django_db_blocker.unblock():
        return _saved_tenant.then(lambda: subscribe(Tenant.objects.get()))


@pytest.fixture
def tenant(prices, _saved_subscription):
    """A tenant with one relay for $25 a month whose first invoice is a draft."""
    return Tenant.objects.get(pk=_saved_subscription.restore())


def subscribe(tenant):
    add_relay(tenant, "growth")
    sync(tenant)
    return tenant.pk


def start_month(sandbox, tenant, **params):
    """Pay the first month, change the subscription, and return the second invoice."""
    pay_all_invoices(sandbox)
    sandbox.client().v1.subscriptions.update(tenant.stripe_subscription_id, params)
    sandbox.advance(first_line(sandbox).period.end - sandbox.app.clock.now())
    finalize_drafts(sandbox)
    return newest(sandbox)


def newest(sandbox):
    return sandbox.client().v1.invoices.list({}).data[0]


def first_line(sandbox):
    return newest(sandbox).lines.data[0]


def coupon(sandbox, percent, **params):
    made = builders.coupon(sandbox.client(), percent_off=percent, **params)
    return [{"coupon": made.id}]


def tax(sandbox, *, inclusive=False):
    return [builders.tax_rate(sandbox.client(), inclusive=inclusive).id]


def suspend(tenant):
    post_collect_and_sync(tenant)
    tenant.collections.unpaid().update(suspend_at=timezone.now())
    review_tenant(tenant_id=tenant.pk)
    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)


def balance(sandbox, tenant):
    """Return the customer's balance; credit is negative."""
    return sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id).balance


def served(invoice, cents, days):
    """Return the price of some days of the month of an invoice, rounded."""
    line = invoice.lines.data[-1]
    length = line.period.end - line.period.start
    return round(Fraction(cents * days * DAY, length))


def test_week_of_a_month_at_half_price_is_owed(sandbox, tenant):
    """The month was forgiven whole, and $6.09 of the paid first one returned."""
    invoice = start_month(sandbox, tenant, discounts=coupon(sandbox, 50))
    assert invoice.total == 1250
    sandbox.advance(7 * DAY)

    suspend(tenant)

    assert newest(sandbox).amount_remaining == served(invoice, 1250, 7)
    assert balance(sandbox, tenant) == 0
    row = InvoiceCollection.objects.get(pk=invoice.id)
    assert row.unserved_cents == 1250 - served(invoice, 1250, 7)


@pytest.mark.parametrize("days", [1, 7, 20, 29])
@pytest.mark.parametrize("paid", [True, False])
def test_days_with_a_lasting_discount_are_paid_for(sandbox, tenant, days, paid):
    """With 30 % off, 90 of 90 days cost nothing."""
    invoice = start_month(sandbox, tenant, discounts=coupon(sandbox, 30))
    assert invoice.total == 1750
    if paid:
        pay_all_invoices(sandbox)
    sandbox.advance(days * DAY)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)

    unused = 1750 - served(invoice, 1750, days)
    remaining = newest(sandbox).amount_remaining
    assert (remaining, -balance(sandbox, tenant)) == (
        (0, unused) if paid else (1750 - unused, 0)
    )


@pytest.mark.parametrize("inclusive", [False, True])
def test_unpaid_week_is_owed_with_its_tax(sandbox, tenant, inclusive):
    """With a tax of 20 % it asked for $10.78 instead of about $6.95."""
    rates = tax(sandbox, inclusive=inclusive)
    invoice = start_month(sandbox, tenant, default_tax_rates=rates)
    price = 2500 if inclusive else 3000
    assert invoice.total == price
    sandbox.advance(7 * DAY)

    suspend(tenant)

    assert newest(sandbox).amount_remaining == served(invoice, price, 7)
    assert balance(sandbox, tenant) == 0


def test_discount_and_tax_of_a_month_are_both_prorated(sandbox, tenant):
    invoice = start_month(
        sandbox,
        tenant,
        discounts=coupon(sandbox, 50),
        default_tax_rates=tax(sandbox),
    )
    assert invoice.total == 1500
    sandbox.advance(10 * DAY)

    suspend(tenant)

    assert newest(sandbox).amount_remaining == served(invoice, 1500, 10)


@pytest.mark.parametrize("prorations", ["deleted", "kept"])
@pytest.mark.parametrize("on_items", [False, True])
def test_used_time_of_an_unbilled_upgrade_is_owed_with_its_tax(
    sandbox, tenant, prorations, on_items
):
    """Sources disagree whether Stripe deletes the pending prorations."""
    sandbox.settings(canceled_prorations=prorations)
    api, rates = sandbox.client().v1, tax(sandbox)
    subscription = api.subscriptions.retrieve(tenant.stripe_subscription_id)
    item = {"id": subscription["items"].data[0].id, "tax_rates": rates}
    params = {"items": [item]} if on_items else {"default_tax_rates": rates}
    invoice = start_month(sandbox, tenant, **params, proration_behavior="none")
    assert invoice.total == 3000
    sandbox.advance(3 * DAY)
    # A relay at $5 a month, which staff tax as well.
    add_relay(tenant)
    sync(tenant)
    if on_items:
        tax_all_items(sandbox, tenant, rates)
    pending = api.invoice_items.list({"customer": tenant.stripe_customer_id}).data
    assert any(item.proration for item in pending)
    sandbox.advance(4 * DAY)

    suspend(tenant)

    taxed = 500 if on_items else 600
    owed = served(invoice, 3000, 7) + served(invoice, taxed, 4)
    assert newest(sandbox).amount_remaining == pytest.approx(owed, abs=1)
    pending = {"customer": tenant.stripe_customer_id, "pending": True}
    assert api.invoice_items.list(pending).data == []
    assert balance(sandbox, tenant) == 0


def tax_all_items(sandbox, tenant, rates):
    """Tax new items from now on; what is pending keeps its rates."""
    api = sandbox.client().v1.subscriptions
    items = api.retrieve(tenant.stripe_subscription_id)["items"].data
    changes = [{"id": item.id, "tax_rates": rates} for item in items]
    params = {"items": changes, "proration_behavior": "none"}
    api.update(tenant.stripe_subscription_id, params)


@pytest.mark.parametrize("prorations", ["deleted", "kept"])
def test_decrease_before_an_unpaid_end_is_credited_once(sandbox, tenant, prorations):
    sandbox.settings(canceled_prorations=prorations)
    other = add_relay(tenant, "growth")
    sync(tenant)
    invoice = start_month(sandbox, tenant, default_tax_rates=tax(sandbox))
    sandbox.advance(3 * DAY)
    lifecycle.deactivate_relay(relay_id=other.pk)
    sync(tenant)
    sandbox.advance(4 * DAY)

    suspend(tenant)

    # The first month of the second relay is on this invoice, without change.
    before = invoice.total - 6000
    owed = before + served(invoice, 3000, 7) + served(invoice, 3000, 3)
    assert newest(sandbox).amount_remaining == pytest.approx(owed, abs=1)
    assert Credit.objects.get().collection_id == invoice.id


@pytest.mark.parametrize("prorations", ["deleted", "kept"])
def test_kept_prorations_of_an_end_by_staff_are_settled_with_the_next_invoice(
    sandbox, tenant, prorations
):
    """Caravel does not know the items that Stripe deletes when staff cancel."""
    sandbox.settings(canceled_prorations=prorations)
    invoice = start_month(sandbox, tenant)
    sandbox.advance(3 * DAY)
    add_relay(tenant)
    sync(tenant)
    sandbox.advance(4 * DAY)
    api = sandbox.client().v1
    api.subscriptions.cancel(tenant.stripe_subscription_id)

    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)

    pending = {"customer": tenant.stripe_customer_id, "pending": True}
    left = sum(item.amount for item in api.invoice_items.list(pending).data)
    upgrade = served(invoice, 500, 4) if prorations == "kept" else 0
    owed = newest(sandbox).amount_remaining + balance(sandbox, tenant) + left
    assert owed == pytest.approx(served(invoice, 2500, 7) + upgrade, abs=1)
