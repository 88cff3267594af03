import pytest

from billing.clients.stripe.client import Item, Subscription
from billing.services.subscriptions.diff import (
    desired_items,
    diff_subscriptions,
    unbilled_plans,
)
from relays.models import Plan, Relay
from relays.tests.factories import RelayFactory
from tenants.tests.factories import TenantFactory

TENANT = "ab" * 32


def sub(id="sub_1", status="active", created=1, items=(), **fields):
    return Subscription(
        id=id,
        customer="cus_1",
        status=status,
        created=created,
        collection_method=fields.get("collection_method", "send_invoice"),
        items=tuple(Item(f"si_{price}", price, n) for price, n in items),
        metadata=fields.get("metadata", {"tenant_pubkey": TENANT}),
        cancel_reason="",
    )


def diff(desired, *subscriptions, current_id=None):
    return diff_subscriptions(
        desired, subscriptions, tenant_pubkey=TENANT, current_id=current_id
    )


def test_subscription_with_equal_items_is_in_sync():
    result = diff({"p1": 2, "p2": 1}, sub(items=[("p2", 1), ("p1", 2)]))

    assert result.is_in_sync
    assert result.current.id == "sub_1"


def test_quantities_are_absolute_and_deleted_items_come_last():
    result = diff({"p1": 3, "p3": 1}, sub(items=[("p2", 5), ("p1", 2)]))

    assert result.items == (
        {"id": "si_p1", "quantity": 3},
        {"price": "p3", "quantity": 1},
        {"id": "si_p2", "deleted": True},
    )


def test_every_live_subscription_is_a_duplicate_when_nothing_is_desired():
    result = diff({}, sub(), sub("sub_2", "unpaid"), sub("sub_3", "canceled"))

    assert result.current is None
    assert [s.id for s in result.duplicates] == ["sub_1", "sub_2"]


def test_current_subscription_is_preferred_to_an_older_one():
    result = diff(
        {"p1": 1}, sub("sub_1", created=1), sub("sub_2", created=2), current_id="sub_2"
    )

    assert result.current.id == "sub_2"
    assert [s.id for s in result.duplicates] == ["sub_1"]


def test_oldest_subscription_is_adopted_without_a_current_one():
    result = diff({"p1": 1}, sub("sub_2", created=2), sub("sub_1", created=1))

    assert result.current.id == "sub_1"


@pytest.mark.parametrize("status", ["active", "trialing", "past_due"])
def test_live_subscription_is_current(status):
    assert diff({"p1": 1}, sub(status=status)).current


@pytest.mark.parametrize("status", ["unpaid", "incomplete"])
def test_subscription_in_limbo_is_cancelled(status):
    result = diff({"p1": 1}, sub(status=status), current_id="sub_1")

    assert result.current is None
    assert len(result.duplicates) == 1


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_ended_subscription_is_ignored(status):
    result = diff({"p1": 1}, sub(status=status), current_id="sub_1")

    assert (result.current, result.duplicates) == (None, ())


@pytest.mark.parametrize("metadata", [{}, {"tenant_pubkey": "other"}], ids=str)
def test_subscription_that_does_not_name_the_tenant_needs_metadata(metadata):
    current = sub(items=[("p1", 1)], metadata=metadata)

    result = diff({"p1": 1}, current, current_id="sub_1")

    assert result.current is current
    assert result.needs_metadata
    assert not result.is_in_sync


def test_automatic_collection_needs_send_invoice():
    result = diff(
        {"p1": 1}, sub(items=[("p1", 1)], collection_method="charge_automatically")
    )

    assert result.needs_send_invoice
    assert not result.is_in_sync


@pytest.mark.django_db
def test_desired_items_count_billable_relays_in_one_query(django_assert_num_queries):
    Plan.objects.filter(pk="basic").update(stripe_price_id="p1")
    Plan.objects.filter(pk="growth").update(stripe_price_id="p2")
    tenant = TenantFactory()
    RelayFactory.create_batch(3, tenant=tenant)
    RelayFactory(tenant=tenant, plan=Plan.objects.get(pk="growth"))
    RelayFactory(tenant=tenant, plan=Plan.objects.get(pk="free"))
    RelayFactory(tenant=tenant, status=Relay.Status.INACTIVE)
    RelayFactory()

    with django_assert_num_queries(1):
        assert desired_items(tenant.pk) == {"p1": 3, "p2": 1}


@pytest.mark.django_db
def test_plan_that_cannot_be_billed_is_reported_and_leaves_out_no_other():
    Plan.objects.filter(pk="growth").update(stripe_price_id="p2")
    relay = RelayFactory()
    RelayFactory(tenant=relay.tenant, plan=Plan.objects.get(pk="growth"))

    assert desired_items(relay.tenant_id) == {"p2": 1}
    assert list(unbilled_plans(relay.tenant_id, {"p2"})) == ["basic"]
