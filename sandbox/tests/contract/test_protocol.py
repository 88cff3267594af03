"""Keys that are remembered, lists that are up to date, words that are refused."""

import uuid

import pytest
import stripe

from sandbox.tests.support import contract_builders


def key() -> stripe.RequestOptions:
    return {"idempotency_key": str(uuid.uuid4())}


def test_a_key_brings_the_first_answer_back(account):
    options = key()

    first = account.api.v1.customers.create({"email": "a@example.com"}, options)
    again = account.api.v1.customers.create({"email": "a@example.com"}, options)

    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"


def test_a_key_with_other_parameters_is_refused(account):
    options = key()
    account.api.v1.customers.create({"email": "a@example.com"}, options)

    with pytest.raises(stripe.IdempotencyError) as refused:
        account.api.v1.customers.create({"email": "b@example.com"}, options)

    assert refused.value.http_status == 400


def test_a_key_brings_an_error_back_too_once_execution_began(account, price):
    payer = account.customer(email="")
    subscribe: stripe.params.SubscriptionCreateParams = {
        "customer": payer.id,
        "items": [{"price": price.id}],
        "collection_method": "send_invoice",
        "days_until_due": 7,
    }
    options = key()
    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.subscriptions.create(subscribe, options)
    account.api.v1.customers.update(payer.id, {"email": "ann@example.com"})

    with pytest.raises(stripe.InvalidRequestError) as again:
        account.api.v1.subscriptions.create(subscribe, options)

    assert contract_builders.replayed(again.value)


def test_an_unknown_parameter_is_refused(account):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.api.v1.customers.create({"colour": "red"})

    assert refused.value.code == "parameter_unknown"


def test_a_missing_object_is_a_404(account):
    with pytest.raises(stripe.InvalidRequestError) as missing:
        account.api.v1.subscriptions.retrieve("sub_doesnotexist")

    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


def test_a_list_shows_a_new_object_at_once(account, price):
    payer = account.customer()
    made = contract_builders.subscription(account, price, to=payer)

    found = account.api.v1.subscriptions.list({"customer": payer.id})

    assert [one.id for one in found.data] == [made.id]


def test_customers_are_listed_by_exact_email(account):
    address = f"{uuid.uuid4()}@example.com"
    mine = account.api.v1.customers.create({"email": address})
    account.api.v1.customers.create({"email": f"x{address}"})

    found = account.api.v1.customers.list({"email": address})

    assert [one.id for one in found.data] == [mine.id]


def test_events_are_listed_by_type_and_time(account):
    since = account.now() - 5
    payer = account.customer()

    found = account.eventually(
        lambda: (
            contract_builders.of(
                payer.id,
                contract_builders.events(account, "customer.created", since=since),
            )
            or None
        )
    )

    assert [one.type for one in found] == ["customer.created"]
    assert found[0].data.object.email == "ann@example.com"
