"""Plans that can be sold: as Stripe says, by webhook or within the hour."""

import pytest
from structlog.testing import capture_logs

from billing.clients.stripe.client import Stripe
from billing.models import StripeEvent, SubscriptionSync
from billing.services.customers.catalog import ensure_prices, refresh_prices
from billing.services.events.process import process_event
from billing.services.subscriptions.sync import SyncOutcome
from billing.tasks import check_prices
from billing.tests.factories import StripeEventFactory
from billing.tests.support.subscriptions import add_relay, sync
from relays.exceptions import PriceMissing
from relays.models import Plan
from relays.services import lifecycle
from sandbox.stripe.objects.catalog import prices as sandbox_prices
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def archive(sandbox, price_id, *, active=False):
    sandbox.client().v1.prices.update(price_id, {"active": active})


def archive_product(sandbox, price_id):
    product = sandbox.client().v1.prices.retrieve(price_id).product
    sandbox.client().v1.products.update(product, {"active": False})


def process_latest(sandbox, type):
    """Process the latest event of a type as its webhook would be."""
    (sent,) = sandbox.client().v1.events.list({"type": type, "limit": 1}).data
    event = StripeEventFactory(type=type, object={"id": sent.data.object["id"]})
    process_event(event_id=event.pk)
    return StripeEvent.objects.get(pk=event.pk)


def problem_of(plan_id):
    return Plan.objects.get(pk=plan_id).price_problem


def alerted_plans(logs):
    return [log["plan"] for log in logs if log["event"] == "plan_not_sellable"]


def test_archived_price_is_not_sold_until_it_is_active_again(sandbox, prices):
    tenant = TenantFactory()
    archive(sandbox, prices["basic"])
    with capture_logs() as logs:
        event = process_latest(sandbox, "price.updated")

    assert (event.status, event.outcome) == ("processed", "1 plans cannot be billed")
    assert alerted_plans(logs) == ["basic"]
    with pytest.raises(PriceMissing):
        lifecycle.create_relay(tenant_id=tenant.pk, subdomain="a", plan_id="basic")
    lifecycle.create_relay(tenant_id=tenant.pk, subdomain="b", plan_id="growth")

    archive(sandbox, prices["basic"], active=True)
    process_latest(sandbox, "price.updated")

    lifecycle.create_relay(tenant_id=tenant.pk, subdomain="a", plan_id="basic")


def test_archived_product_is_not_sold(sandbox, prices):
    archive_product(sandbox, prices["basic"])

    process_latest(sandbox, "product.updated")

    assert "archived" in problem_of("basic")
    assert problem_of("growth") == ""


def test_deleted_price_is_not_sold(sandbox, prices):
    sandbox.app.transact(lambda ctx: sandbox_prices.delete(ctx, prices["basic"]))

    process_latest(sandbox, "price.deleted")

    assert "no such price" in problem_of("basic")


@pytest.mark.parametrize(
    ("terms", "problem"),
    [({"currency": "eur"}, "is in usd"), ({"amount_cents": 700}, "another amount")],
    ids=str,
)
def test_price_with_other_terms_than_the_plan_is_not_sold(prices, terms, problem):
    Plan.objects.filter(pk="basic").update(**terms)

    refresh_prices()

    assert problem in problem_of("basic")


def test_archived_price_whose_webhook_was_lost_is_found_by_the_hourly_check(
    sandbox, prices
):
    archive(sandbox, prices["basic"])

    check_prices()

    assert "archived" in problem_of("basic")


def test_paid_plan_without_a_price_is_reported(sandbox):
    with capture_logs() as logs:
        refresh_prices()

    assert alerted_plans(logs) == ["basic", "growth"]


def test_price_of_another_business_changes_nothing(sandbox, prices):
    other = sandbox.client().v1.prices.create(
        {"currency": "usd", "unit_amount": 1, "product_data": {"name": "Book"}}
    )
    archive(sandbox, other.id)

    event = process_latest(sandbox, "price.updated")

    assert event.outcome == "not a price of a plan"


@pytest.mark.parametrize("archive_it", [archive, archive_product])
def test_setup_replaces_an_archived_price(sandbox, prices, archive_it):
    archive_it(sandbox, prices["basic"])
    refresh_prices()

    found = {price.plan_id: price for price in ensure_prices(Stripe())}

    assert found["basic"].created
    assert not found["growth"].created
    refresh_prices()
    assert problem_of("basic") == ""


def test_failed_sync_is_retried_when_its_plan_can_be_sold_again(sandbox, prices):
    tenant = TenantFactory()
    add_relay(tenant)
    archive(sandbox, prices["basic"])
    refresh_prices()
    sync(tenant, SyncOutcome.FAILED)
    row = SubscriptionSync.objects.get(pk=tenant.pk)

    archive(sandbox, prices["basic"], active=True)
    refresh_prices()

    assert (
        SubscriptionSync.objects.get(pk=tenant.pk).next_attempt_at < row.next_attempt_at
    )
