import pytest

from billing.clients.stripe.client import Item, Subscription
from billing.exceptions import PriceMissing
from billing.services.subscriptions.diff import desired_items, diff_subscriptions
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


def difference(desired, *subscriptions, current_id=None):
    return diff_subscriptions(
        desired, subscriptions, tenant_pubkey=TENANT, current_id=current_id
    )


def test_equal_is_in_step():
    found = difference({"p1": 2, "p2": 1}, sub(items=[("p2", 1), ("p1", 2)]))

    assert found.is_in_sync
    assert found.current.id == "sub_1"


def test_changes_are_absolute_and_a_surplus_item_goes_last():
    found = difference({"p1": 3, "p3": 1}, sub(items=[("p2", 5), ("p1", 2)]))

    assert found.items == (
        {"id": "si_p1", "quantity": 3},
        {"price": "p3", "quantity": 1},
        {"id": "si_p2", "deleted": True},
    )


def test_nothing_desired_makes_every_subscription_of_ours_surplus():
    found = difference({}, sub(), sub("sub_2", "unpaid"), sub("sub_3", "canceled"))

    assert found.current is None
    assert [s.id for s in found.duplicates] == ["sub_1", "sub_2"]


def test_the_current_one_is_kept_before_an_older_one():
    found = difference(
        {"p1": 1}, sub("sub_1", created=1), sub("sub_2", created=2), current_id="sub_2"
    )

    assert found.current.id == "sub_2"
    assert [s.id for s in found.duplicates] == ["sub_1"]


def test_without_a_current_one_the_oldest_is_adopted():
    found = difference({"p1": 1}, sub("sub_2", created=2), sub("sub_1", created=1))

    assert found.current.id == "sub_1"


@pytest.mark.parametrize("status", ["active", "trialing", "past_due"])
def test_a_live_status_is_kept(status):
    assert difference({"p1": 1}, sub(status=status)).current


@pytest.mark.parametrize("status", ["unpaid", "paused", "incomplete"])
def test_a_status_in_limbo_counts_as_none_and_goes(status):
    found = difference({"p1": 1}, sub(status=status), current_id="sub_1")

    assert found.current is None
    assert len(found.duplicates) == 1


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_an_ended_one_is_nothing(status):
    found = difference({"p1": 1}, sub(status=status), current_id="sub_1")

    assert (found.current, found.duplicates) == (None, ())


def test_somebody_elses_subscription_is_left_alone():
    foreign = sub("sub_x", metadata={"service": "another"})

    found = difference({}, foreign, sub("sub_y", metadata={"tenant_pubkey": "other"}))

    assert found.duplicates == ()


def test_the_current_one_is_ours_whatever_became_of_its_metadata():
    assert difference({"p1": 1}, sub(metadata={}), current_id="sub_1").current


def test_a_subscription_that_stripe_charges_is_switched():
    found = difference(
        {"p1": 1}, sub(items=[("p1", 1)], collection_method="charge_automatically")
    )

    assert found.needs_send_invoice
    assert not found.is_in_sync


@pytest.mark.django_db
def test_desired_items_are_one_query_of_the_billable(django_assert_num_queries):
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
def test_a_paid_plan_without_a_price_is_an_error_not_a_gift():
    relay = RelayFactory()

    with pytest.raises(PriceMissing) as caught:
        desired_items(relay.tenant_id)

    assert caught.value.code == "plan-price-missing"
