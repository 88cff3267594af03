"""Idempotency keys, lists, refused parameters."""

import uuid

import pytest
import stripe

from sandbox.tests.support.stripe import contract_builders


def key() -> stripe.RequestOptions:
    return {"idempotency_key": str(uuid.uuid4())}


def test_the_first_response_is_replayed_for_its_idempotency_key(account):
    options = key()

    first = account.api.v1.customers.create({"email": "a@example.com"}, options)
    second = account.api.v1.customers.create({"email": "a@example.com"}, options)

    assert second.id == first.id
    assert second.last_response.headers["Idempotent-Replayed"] == "true"


def test_a_reused_key_with_other_parameters_is_refused(account):
    options = key()
    account.api.v1.customers.create({"email": "a@example.com"}, options)

    with pytest.raises(stripe.IdempotencyError) as refused:
        account.api.v1.customers.create({"email": "b@example.com"}, options)

    assert refused.value.http_status == 400


def test_an_error_after_execution_began_is_replayed_for_its_key(account, price):
    payer = account.customer(email="")
    params: stripe.params.SubscriptionCreateParams = {
        "customer": payer.id,
        "items": [{"price": price.id}],
        "collection_method": "send_invoice",
        "days_until_due": 7,
    }
    options = key()
    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.subscriptions.create(params, options)
    account.api.v1.customers.update(payer.id, {"email": "ann@example.com"})

    with pytest.raises(stripe.InvalidRequestError) as repeated:
        account.api.v1.subscriptions.create(params, options)

    assert contract_builders.is_replayed(repeated.value)


def test_an_unknown_parameter_is_refused(account):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.api.v1.customers.create({"colour": "red"})

    assert refused.value.code == "parameter_unknown"


def test_a_missing_object_is_a_404(account):
    with pytest.raises(stripe.InvalidRequestError) as missing:
        account.api.v1.subscriptions.retrieve("sub_doesnotexist")

    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


def test_a_list_includes_a_new_object_at_once(account, price):
    payer = account.customer()
    created = contract_builders.subscription(account, price, to=payer)

    page = account.api.v1.subscriptions.list({"customer": payer.id})

    assert [subscription.id for subscription in page.data] == [created.id]


def test_customers_are_listed_by_exact_email(account):
    address = f"{uuid.uuid4()}@example.com"
    created = account.api.v1.customers.create({"email": address})
    account.api.v1.customers.create({"email": f"x{address}"})

    page = account.api.v1.customers.list({"email": address})

    assert [customer.id for customer in page.data] == [created.id]


def test_events_are_listed_by_type_and_time(account):
    since = account.now() - 5
    payer = account.customer()

    events = account.eventually(
        lambda: (
            contract_builders.about(
                payer.id,
                contract_builders.events(account, "customer.created", since=since),
            )
            or None
        )
    )

    assert [event.type for event in events] == ["customer.created"]
    assert events[0].data.object.email == "ann@example.com"


def test_events_are_listed_by_at_most_twenty_types(account):
    since = account.now()
    types = ["customer.deleted"] * 21

    assert contract_builders.events(account, *types[:20], since=since) == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        contract_builders.events(account, *types, since=since)

    assert refused.value.http_status == 400
