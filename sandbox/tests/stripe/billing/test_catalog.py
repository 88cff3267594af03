"""Customers, their balance, products and prices."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders


def test_metadata_is_merged_and_empty_value_unsets_key(api):
    customer = builders.customer(api, metadata={"a": "1", "b": "2"})

    merged = api.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}})
    emptied = api.v1.customers.update(customer.id, {"metadata": ""})

    assert merged.metadata.to_dict() == {"a": "1", "c": "3"}
    assert emptied.metadata.to_dict() == {}


def test_customers_are_listed_by_exact_email(api):
    customer = builders.customer(api, email="ann@example.com")
    builders.customer(api, email="Ann@example.com")

    page = api.v1.customers.list({"email": "ann@example.com"})

    assert [customer.id for customer in page.data] == [customer.id]


def test_empty_email_unsets_email(api):
    customer = builders.customer(api)

    assert api.v1.customers.update(customer.id, {"email": ""}).email is None


def test_deleted_customer_is_tombstone_and_its_subscription_canceled(api):
    customer = builders.customer(api)
    subscription = builders.subscription(api, to=customer)

    api.v1.customers.delete(customer.id)

    tombstone = api.v1.customers.retrieve(customer.id).to_dict()
    assert tombstone == {"id": customer.id, "object": "customer", "deleted": True}
    assert api.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert api.v1.customers.list().data == []
    assert builders.event_types(api)[-2:] == [
        "customer.subscription.deleted",
        "customer.deleted",
    ]


@pytest.mark.parametrize("call", ["update", "delete"])
def test_deleted_customer_cannot_be_updated_or_deleted(api, call):
    customer = builders.customer(api)
    api.v1.customers.delete(customer.id)

    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        getattr(api.v1.customers, call)(customer.id)


def test_invoice_of_deleted_customer_can_be_finalized(api):
    customer = builders.customer(api)
    subscription = builders.subscription(api, to=customer)
    api.v1.customers.delete(customer.id)

    assert builders.first_invoice(api, subscription).status == "open"


def test_balance_transactions_change_the_balance_and_are_listed(api):
    customer = builders.customer(api)
    transactions = api.v1.customers.balance_transactions

    transactions.create(
        customer.id, {"amount": -500, "currency": "usd", "metadata": {"credit": "1"}}
    )
    last = transactions.create(customer.id, {"amount": 200, "currency": "usd"})

    assert last.ending_balance == -300
    assert last.type == "adjustment"
    assert api.v1.customers.retrieve(customer.id).balance == -300
    listed = transactions.list(customer.id).data
    assert [transaction.amount for transaction in listed] == [200, -500]
    assert listed[1].metadata["credit"] == "1"


def test_balance_in_second_currency_is_refused(api):
    customer = builders.customer(api)
    builders.subscription(api, to=customer)

    with pytest.raises(stripe.InvalidRequestError, match="cannot combine currencies"):
        api.v1.customers.balance_transactions.create(
            customer.id, {"amount": 1, "currency": "eur"}
        )


def test_lookup_key_in_use_is_refused(api):
    first = builders.price(api, lookup_key="basic")

    with pytest.raises(stripe.InvalidRequestError) as caught:
        builders.price(api, lookup_key="basic")

    assert caught.value.user_message == (
        f"A price (`{first.id}`) already uses that lookup key."
    )


def test_lookup_key_can_be_transferred(api):
    first = builders.price(api, lookup_key="basic")

    second = builders.price(api, lookup_key="basic", transfer_lookup_key=True)

    page = api.v1.prices.list({"lookup_keys": ["basic", "other"]})
    assert [price.id for price in page.data] == [second.id]
    assert api.v1.prices.retrieve(first.id).lookup_key is None


def test_price_without_product_is_refused(api):
    with pytest.raises(stripe.InvalidRequestError, match="`product` or"):
        api.v1.prices.create({"currency": "usd", "unit_amount": 1})
    with pytest.raises(stripe.InvalidRequestError, match="No such product: 'prod_x'"):
        api.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": "prod_x"})


def test_prices_are_listed_by_product_and_active(api):
    active, inactive = builders.price(api), builders.price(api)
    api.v1.prices.update(inactive.id, {"active": False})

    by_status = api.v1.prices.list({"active": True})
    by_product = api.v1.prices.list({"product": inactive.product})

    assert [price.id for price in by_status.data] == [active.id]
    assert [price.id for price in by_product.data] == [inactive.id]


def test_new_customer_has_no_payment_methods(api):
    customer = builders.customer(api)

    assert api.v1.payment_methods.list({"customer": customer.id}).data == []
