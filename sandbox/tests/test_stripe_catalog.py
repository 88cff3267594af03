"""Customers, their balance, products and prices."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story


def test_metadata_is_merged_and_an_empty_value_unsets_its_key(api):
    made = story.customer(api, metadata={"a": "1", "b": "2"})

    merged = api.v1.customers.update(made.id, {"metadata": {"b": "", "c": "3"}})
    emptied = api.v1.customers.update(made.id, {"metadata": ""})

    assert merged.metadata.to_dict() == {"a": "1", "c": "3"}
    assert emptied.metadata.to_dict() == {}


def test_customers_are_found_by_their_exact_email(api):
    made = story.customer(api, email="ann@example.com")
    story.customer(api, email="Ann@example.com")

    found = api.v1.customers.list({"email": "ann@example.com"})

    assert [one.id for one in found.data] == [made.id]


def test_an_empty_email_unsets_it(api):
    made = story.customer(api)

    assert api.v1.customers.update(made.id, {"email": ""}).email is None


def test_a_deleted_customer_leaves_a_tombstone_and_no_subscription(api):
    made = story.customer(api)
    subscribed = story.subscription(api, to=made)

    api.v1.customers.delete(made.id)

    left = api.v1.customers.retrieve(made.id).to_dict()
    assert left == {"id": made.id, "object": "customer", "deleted": True}
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "canceled"
    assert api.v1.customers.list().data == []
    assert story.event_types(api)[-2:] == [
        "customer.subscription.deleted",
        "customer.deleted",
    ]


@pytest.mark.parametrize("call", ["update", "delete"])
def test_a_deleted_customer_cannot_be_changed(api, call):
    made = story.customer(api)
    api.v1.customers.delete(made.id)

    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        getattr(api.v1.customers, call)(made.id)


def test_an_invoice_of_a_deleted_customer_can_still_be_finalized(api):
    made = story.customer(api)
    subscribed = story.subscription(api, to=made)
    api.v1.customers.delete(made.id)

    assert story.first_invoice(api, subscribed).status == "open"


def test_balance_transactions_change_the_balance_and_are_listed(api):
    made = story.customer(api)
    transactions = api.v1.customers.balance_transactions

    transactions.create(
        made.id, {"amount": -500, "currency": "usd", "metadata": {"credit": "1"}}
    )
    last = transactions.create(made.id, {"amount": 200, "currency": "usd"})

    assert last.ending_balance == -300
    assert last.type == "adjustment"
    assert api.v1.customers.retrieve(made.id).balance == -300
    listed = transactions.list(made.id).data
    assert [one.amount for one in listed] == [200, -500]
    assert listed[1].metadata["credit"] == "1"


def test_a_customer_has_one_currency(api):
    made = story.customer(api)
    story.subscription(api, to=made)

    with pytest.raises(stripe.InvalidRequestError, match="cannot combine currencies"):
        api.v1.customers.balance_transactions.create(
            made.id, {"amount": 1, "currency": "eur"}
        )


def test_a_lookup_key_belongs_to_one_price(api):
    first = story.price(api, lookup_key="basic")

    with pytest.raises(stripe.InvalidRequestError) as caught:
        story.price(api, lookup_key="basic")

    assert caught.value.user_message == (
        f"A price (`{first.id}`) already uses that lookup key."
    )


def test_a_lookup_key_can_be_transferred(api):
    first = story.price(api, lookup_key="basic")

    second = story.price(api, lookup_key="basic", transfer_lookup_key=True)

    found = api.v1.prices.list({"lookup_keys": ["basic", "other"]})
    assert [one.id for one in found.data] == [second.id]
    assert api.v1.prices.retrieve(first.id).lookup_key is None


def test_a_price_needs_a_product(api):
    with pytest.raises(stripe.InvalidRequestError, match="`product` or"):
        api.v1.prices.create({"currency": "usd", "unit_amount": 1})
    with pytest.raises(stripe.InvalidRequestError, match="No such product: 'prod_x'"):
        api.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": "prod_x"})


def test_prices_are_listed_by_product_and_activity(api):
    kept, retired = story.price(api), story.price(api)
    api.v1.prices.update(retired.id, {"active": False})

    active = api.v1.prices.list({"active": True})
    of_product = api.v1.prices.list({"product": retired.product})

    assert [one.id for one in active.data] == [kept.id]
    assert [one.id for one in of_product.data] == [retired.id]


def test_a_product_with_a_price_is_not_deleted(api):
    made = story.price(api)
    empty = api.v1.products.create({"name": "Empty", "id": "prod_empty"})

    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        api.v1.products.delete(made.product)
    assert api.v1.products.delete(empty.id).deleted


def test_no_payment_methods_are_attached(api):
    made = story.customer(api)

    assert api.v1.customers.payment_methods.list(made.id).data == []
    assert api.v1.payment_methods.list({"customer": made.id}).data == []


@pytest.mark.parametrize(
    ("interval", "most"), [("day", 1_095), ("week", 156), ("month", 36), ("year", 3)]
)
def test_a_price_is_for_three_years_at_most(api, interval, most):
    def priced(count):
        return story.price(
            api, recurring={"interval": interval, "interval_count": count}
        )

    subscribed = story.subscription(api, priced(most))
    with pytest.raises(stripe.InvalidRequestError) as caught:
        priced(most + 1)

    item = subscribed["items"].data[0]
    years = (item.current_period_end - item.current_period_start) / story.DAY / 365
    assert 2.9 < years < 3.1
    assert caught.value.param == "recurring[interval_count]"
