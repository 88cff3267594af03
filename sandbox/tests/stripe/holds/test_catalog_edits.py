"""Archived prices and products (docs.stripe.com/products-prices/manage-prices)."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY
from sandbox.tests.support.stripe.control import control


def test_archived_price_renews_but_is_not_sold(stripe_sandbox, api):
    price = builders.price(api)
    subscription = builders.subscription(api, price)
    api.v1.prices.update(price.id, {"active": False})

    item = subscription["items"].data[0].id
    more = {"items": [{"id": item, "quantity": 2}]}
    updated = api.v1.subscriptions.update(subscription.id, more)
    stripe_sandbox.advance(31 * DAY)

    assert updated["items"].data[0].quantity == 2
    assert builders.newest_invoice(api, subscription).billing_reason == (
        "subscription_cycle"
    )
    with pytest.raises(stripe.InvalidRequestError) as caught:
        builders.subscription(api, price)
    assert caught.value.param == "items[0][price]"


def test_price_of_an_archived_product_is_not_sold(api):
    price = builders.price(api)
    archived = api.v1.products.update(str(price.product), {"active": False})

    with pytest.raises(stripe.InvalidRequestError, match="marked as inactive"):
        builders.subscription(api, price)

    event = api.v1.events.list({"type": "product.updated"}).data[0]
    assert (archived.active, event.data.previous_attributes["active"]) == (False, True)


def test_unused_price_can_be_deleted_in_the_dashboard(stripe_sandbox, api):
    unused, used = builders.price(api), builders.price(api)
    builders.subscription(api, used)

    control(stripe_sandbox, "DELETE", f"prices/{unused.id}")

    with pytest.raises(stripe.InvalidRequestError):
        api.v1.prices.retrieve(unused.id)
    assert builders.event_types(api)[-1] == "price.deleted"


def test_price_that_was_used_cannot_be_deleted(stripe_sandbox, api):
    former, present = builders.price(api), builders.price(api)
    subscription = builders.subscription(api, former)
    item = subscription["items"].data[0].id
    change = {"items": [{"id": item, "price": present.id}]}
    api.v1.subscriptions.update(subscription.id, change)

    for price in (former, present):
        status, _ = control(stripe_sandbox, "DELETE", f"prices/{price.id}")

        assert status == 400
