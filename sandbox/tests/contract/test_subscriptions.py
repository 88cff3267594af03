"""Subscriptions: their items, their prorations, their end."""

import pytest
import stripe

from sandbox.tests.contract.conftest import monthly
from sandbox.tests.support import contract_builders
from sandbox.tests.support.contract_builders import DAY


def item_of(subscribed: stripe.Subscription) -> str:
    return str(subscribed.items.data[0].id)


def test_a_subscription_needs_an_item(account):
    payer = account.customer()

    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.api.v1.subscriptions.create({"customer": payer.id, "items": []})

    assert refused.value.http_status == 400


def test_two_items_never_share_a_price(account, price):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        contract_builders.subscription(account, price, price)

    assert refused.value.http_status == 400


def test_the_last_item_cannot_be_deleted(account, price):
    subscribed = contract_builders.subscription(account, price)

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.subscriptions.update(
            subscribed.id, {"items": [{"id": item_of(subscribed), "deleted": True}]}
        )


def test_all_items_can_change_in_one_update(account, price):
    growth = monthly(account, 2_500)
    subscribed = contract_builders.subscription(account, price)

    changed = account.api.v1.subscriptions.update(
        subscribed.id,
        {
            "items": [
                {"id": item_of(subscribed), "deleted": True},
                {"price": growth.id, "quantity": 2},
            ]
        },
    )

    found = [(one.price.id, one.quantity) for one in changed.items.data]
    assert found == [(growth.id, 2)]


def test_sending_invoices_needs_an_email(account, price):
    payer = account.customer(email="")

    with pytest.raises(stripe.InvalidRequestError, match=r"[Mm]issing email"):
        contract_builders.subscription(account, price, to=payer)


def test_a_sent_subscription_is_active_while_its_first_invoice_is_a_draft(
    account, price
):
    subscribed = contract_builders.subscription(account, price)

    invoice = account.api.v1.invoices.retrieve(str(subscribed.latest_invoice))
    assert subscribed.status == "active"
    assert (invoice.status, invoice.billing_reason) == ("draft", "subscription_create")
    assert invoice.auto_advance is True


def test_a_subscriptions_invoice_carries_its_metadata(account, price):
    subscribed = contract_builders.subscription(account, price)

    invoice = account.api.v1.invoices.retrieve(str(subscribed.latest_invoice))

    details = invoice.parent.subscription_details
    assert details.subscription == subscribed.id
    assert details.metadata["tenant_pubkey"] == "ab" * 32


def test_without_a_status_ended_subscriptions_are_not_listed(account, price):
    payer = account.customer()
    ended = contract_builders.subscription(account, price, to=payer)
    account.api.v1.subscriptions.cancel(ended.id)
    living = contract_builders.subscription(account, price, to=payer)

    some = account.api.v1.subscriptions.list({"customer": payer.id})
    every = account.api.v1.subscriptions.list({"customer": payer.id, "status": "all"})

    assert [one.id for one in some.data] == [living.id]
    assert {one.id for one in every.data} == {living.id, ended.id}


def test_a_quantity_that_is_set_already_creates_no_proration(account, price):
    subscribed = contract_builders.subscription(account, price, quantity=2)
    account.advance(10 * DAY)

    account.api.v1.subscriptions.update(
        subscribed.id, {"items": [{"id": item_of(subscribed), "quantity": 2}]}
    )

    assert contract_builders.pending(account, str(subscribed.customer)) == []


def test_a_higher_quantity_is_prorated_to_the_second(account, price):
    subscribed = contract_builders.subscription(account, price)
    period = subscribed.items.data[0]
    account.advance(10 * DAY)

    account.api.v1.subscriptions.update(
        subscribed.id, {"items": [{"id": item_of(subscribed), "quantity": 3}]}
    )

    items = contract_builders.pending(account, str(subscribed.customer))
    length = period.current_period_end - period.current_period_start
    expected = sorted(
        round(amount * (one.period.end - one.period.start) / length)
        for one, amount in zip(
            sorted(items, key=lambda one: one.amount), (-1_000, 3_000), strict=True
        )
    )
    assert sorted(one.amount for one in items) == expected
    assert all(one.proration for one in items)


def test_what_is_pending_says_of_which_subscription_it_is(account, price):
    subscribed = contract_builders.subscription(account, price)
    account.advance(10 * DAY)
    account.api.v1.subscriptions.update(
        subscribed.id, {"items": [{"id": item_of(subscribed), "quantity": 3}]}
    )

    items = contract_builders.pending(account, str(subscribed.customer))

    assert len(items) == 2
    for one in items:
        assert one.parent and one.parent.subscription_details
        assert one.parent.subscription_details.subscription == subscribed.id


def test_a_change_without_proration_leaves_nothing_to_bill(account, price):
    subscribed = contract_builders.subscription(account, price, quantity=3)
    account.advance(10 * DAY)

    account.api.v1.subscriptions.update(
        subscribed.id,
        {
            "items": [{"id": item_of(subscribed), "quantity": 1}],
            "proration_behavior": "none",
        },
    )

    assert contract_builders.pending(account, str(subscribed.customer)) == []


def test_cancelling_an_ended_subscription_is_a_404(account, price):
    subscribed = contract_builders.subscription(account, price)
    account.api.v1.subscriptions.cancel(subscribed.id)

    with pytest.raises(stripe.InvalidRequestError) as missing:
        account.api.v1.subscriptions.cancel(subscribed.id)

    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


def test_an_ended_subscription_can_be_retrieved_and_says_why_it_ended(account, price):
    subscribed = contract_builders.subscription(account, price)
    account.api.v1.subscriptions.cancel(subscribed.id)

    ended = account.api.v1.subscriptions.retrieve(subscribed.id)

    assert ended.status == "canceled"
    assert ended.cancellation_details.reason == "cancellation_requested"


def test_cancelling_with_proration_and_an_invoice_gives_the_unused_time_back(
    account, price
):
    payer = account.customer()
    subscribed = contract_builders.subscription(account, price, to=payer)
    paid = contract_builders.first_invoice(account, subscribed)
    account.api.v1.invoices.pay(paid.id, {"paid_out_of_band": True})
    account.advance(10 * DAY)

    ended = account.api.v1.subscriptions.cancel(
        subscribed.id, {"prorate": True, "invoice_now": True}
    )

    final = account.api.v1.invoices.retrieve(str(ended.latest_invoice))
    assert final.id != paid.id
    assert final.status == "draft"
    assert final.total < 0
    contract_builders.first_invoice(account, ended)
    assert account.api.v1.customers.retrieve(payer.id).balance == final.total


def test_cancelling_with_neither_deletes_what_was_pending(account, price):
    payer = account.customer()
    subscribed = contract_builders.subscription(account, price, to=payer)
    account.advance(DAY)
    account.api.v1.subscriptions.update(
        subscribed.id, {"items": [{"id": item_of(subscribed), "quantity": 2}]}
    )
    before = len(contract_builders.pending(account, payer.id))

    account.api.v1.subscriptions.cancel(subscribed.id)

    assert before == 2
    assert contract_builders.pending(account, payer.id) == []


def test_charging_automatically_without_a_card_starts_incomplete(account, price):
    payer = account.customer()

    subscribed = account.api.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}]}
    )

    invoice = account.api.v1.invoices.retrieve(str(subscribed.latest_invoice))
    assert (subscribed.status, invoice.status) == ("incomplete", "open")


def test_an_incomplete_start_expires_after_23_hours_and_its_invoice_is_void(
    account, price
):
    payer = account.customer()
    subscribed = account.api.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}]}
    )

    account.advance(DAY)

    expired = account.api.v1.subscriptions.retrieve(subscribed.id)
    invoice = account.api.v1.invoices.retrieve(str(subscribed.latest_invoice))
    assert (expired.status, invoice.status) == ("incomplete_expired", "void")


def test_a_subscription_can_be_switched_to_sent_invoices(account, price):
    payer = account.customer()
    subscribed = account.api.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}]}
    )
    method = account.api.v1.payment_methods.attach(
        "pm_card_visa", {"customer": payer.id}
    )
    account.api.v1.invoices.pay(
        str(subscribed.latest_invoice), {"payment_method": method.id}
    )

    switched = account.api.v1.subscriptions.update(
        subscribed.id, {"collection_method": "send_invoice", "days_until_due": 7}
    )

    assert (switched.status, switched.collection_method) == ("active", "send_invoice")
