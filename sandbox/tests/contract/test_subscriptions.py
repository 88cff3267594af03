"""Subscriptions: items, prorations, cancellation."""

import pytest
import stripe

from sandbox.tests.support.stripe import contract_builders
from sandbox.tests.support.stripe.contract_builders import DAY


def first_item_id(subscription: stripe.Subscription) -> str:
    return str(subscription.items.data[0].id)


def test_a_subscription_without_items_is_refused(account):
    payer = account.customer()

    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.api.v1.subscriptions.create({"customer": payer.id, "items": []})

    assert refused.value.http_status == 400


def test_two_items_with_the_same_price_are_refused(account, price):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        contract_builders.subscription(account, price, price)

    assert refused.value.http_status == 400


def test_the_last_item_cannot_be_deleted(account, price):
    subscription = contract_builders.subscription(account, price)

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.subscriptions.update(
            subscription.id,
            {"items": [{"id": first_item_id(subscription), "deleted": True}]},
        )


def test_all_items_can_change_in_one_update(account, price):
    growth = contract_builders.monthly_price(account, 2_500)
    subscription = contract_builders.subscription(account, price)

    changed = account.api.v1.subscriptions.update(
        subscription.id,
        {
            "items": [
                {"id": first_item_id(subscription), "deleted": True},
                {"price": growth.id, "quantity": 2},
            ]
        },
    )

    items = [(item.price.id, item.quantity) for item in changed.items.data]
    assert items == [(growth.id, 2)]


def test_send_invoice_needs_an_email(account, price):
    payer = account.customer(email="")

    with pytest.raises(stripe.InvalidRequestError, match=r"[Mm]issing email"):
        contract_builders.subscription(account, price, to=payer)


def test_a_sent_subscription_is_active_while_its_first_invoice_is_a_draft(
    account, price
):
    subscription = contract_builders.subscription(account, price)

    invoice = account.api.v1.invoices.retrieve(str(subscription.latest_invoice))
    assert subscription.status == "active"
    assert (invoice.status, invoice.billing_reason) == ("draft", "subscription_create")
    assert invoice.auto_advance is True


def test_a_subscriptions_invoice_carries_its_metadata(account, price):
    subscription = contract_builders.subscription(account, price)

    invoice = account.api.v1.invoices.retrieve(str(subscription.latest_invoice))

    details = invoice.parent.subscription_details
    assert details.subscription == subscription.id
    assert details.metadata["tenant_pubkey"] == "ab" * 32


def test_a_list_without_a_status_excludes_ended_subscriptions(account, price):
    payer = account.customer()
    ended = contract_builders.subscription(account, price, to=payer)
    account.api.v1.subscriptions.cancel(ended.id)
    live = contract_builders.subscription(account, price, to=payer)

    by_default = account.api.v1.subscriptions.list({"customer": payer.id})
    every_status = account.api.v1.subscriptions.list(
        {"customer": payer.id, "status": "all"}
    )

    assert [subscription.id for subscription in by_default.data] == [live.id]
    assert {subscription.id for subscription in every_status.data} == {
        live.id,
        ended.id,
    }


def test_subscriptions_of_all_customers_are_listed_by_their_creation(account, price):
    earlier = contract_builders.subscription(account, price)
    account.advance(DAY)
    later = contract_builders.subscription(account, price)

    def ids(**bounds):
        listed = account.api.v1.subscriptions.list({"created": bounds, "limit": 100})
        return [each.id for each in listed.data]

    assert later.id in ids(gte=later.created)
    assert earlier.id not in ids(gte=later.created)
    assert earlier.id in ids(gte=earlier.created, lt=later.created)
    assert later.id not in ids(gte=earlier.created, lt=later.created)


def test_an_unchanged_quantity_creates_no_proration(account, price):
    subscription = contract_builders.subscription(account, price, quantity=2)
    account.advance(10 * DAY)

    account.api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": first_item_id(subscription), "quantity": 2}]}
    )

    assert contract_builders.pending(account, str(subscription.customer)) == []


def test_a_higher_quantity_is_prorated_to_the_second(account, price):
    subscription = contract_builders.subscription(account, price)
    period = subscription.items.data[0]
    account.advance(10 * DAY)

    account.api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": first_item_id(subscription), "quantity": 3}]}
    )

    items = contract_builders.pending(account, str(subscription.customer))
    length = period.current_period_end - period.current_period_start
    expected = sorted(
        round(amount * (item.period.end - item.period.start) / length)
        for item, amount in zip(
            sorted(items, key=lambda item: item.amount), (-1_000, 3_000), strict=True
        )
    )
    assert sorted(item.amount for item in items) == expected
    assert all(item.proration for item in items)


def test_a_pending_item_names_its_subscription(account, price):
    subscription = contract_builders.subscription(account, price)
    account.advance(10 * DAY)
    account.api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": first_item_id(subscription), "quantity": 3}]}
    )

    items = contract_builders.pending(account, str(subscription.customer))

    assert len(items) == 2
    for item in items:
        assert item.parent and item.parent.subscription_details
        assert item.parent.subscription_details.subscription == subscription.id


def test_a_change_with_proration_behavior_none_creates_no_items(account, price):
    subscription = contract_builders.subscription(account, price, quantity=3)
    account.advance(10 * DAY)

    account.api.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": first_item_id(subscription), "quantity": 1}],
            "proration_behavior": "none",
        },
    )

    assert contract_builders.pending(account, str(subscription.customer)) == []


def test_cancelling_an_ended_subscription_is_a_404(account, price):
    subscription = contract_builders.subscription(account, price)
    account.api.v1.subscriptions.cancel(subscription.id)

    with pytest.raises(stripe.InvalidRequestError) as missing:
        account.api.v1.subscriptions.cancel(subscription.id)

    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


def test_an_ended_subscription_can_be_retrieved_with_its_reason(account, price):
    subscription = contract_builders.subscription(account, price)
    account.api.v1.subscriptions.cancel(subscription.id)

    ended = account.api.v1.subscriptions.retrieve(subscription.id)

    assert ended.status == "canceled"
    assert ended.cancellation_details.reason == "cancellation_requested"


def test_cancelling_with_prorate_and_invoice_now_credits_the_unused_time(
    account, price
):
    payer = account.customer()
    subscription = contract_builders.subscription(account, price, to=payer)
    paid = contract_builders.first_invoice(account, subscription)
    account.api.v1.invoices.pay(paid.id, {"paid_out_of_band": True})
    account.advance(10 * DAY)

    ended = account.api.v1.subscriptions.cancel(
        subscription.id, {"prorate": True, "invoice_now": True}
    )

    final = account.api.v1.invoices.retrieve(str(ended.latest_invoice))
    assert final.id != paid.id
    assert final.status == "draft"
    assert final.total < 0
    contract_builders.first_invoice(account, ended)
    assert account.api.v1.customers.retrieve(payer.id).balance == final.total


def test_cancelling_with_neither_option_deletes_pending_prorations(account, price):
    payer = account.customer()
    subscription = contract_builders.subscription(account, price, to=payer)
    account.advance(DAY)
    account.api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": first_item_id(subscription), "quantity": 2}]}
    )
    before = len(contract_builders.pending(account, payer.id))

    account.api.v1.subscriptions.cancel(subscription.id)

    assert before == 2
    assert contract_builders.pending(account, payer.id) == []


def test_charging_automatically_without_a_card_starts_incomplete(account, price):
    payer = account.customer()

    subscription = account.api.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}]}
    )

    invoice = account.api.v1.invoices.retrieve(str(subscription.latest_invoice))
    assert (subscription.status, invoice.status) == ("incomplete", "open")


def test_an_incomplete_subscription_expires_after_23_hours_and_its_invoice_is_voided(
    account, price
):
    payer = account.customer()
    subscription = account.api.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}]}
    )

    account.advance(DAY)

    expired = account.api.v1.subscriptions.retrieve(subscription.id)
    invoice = account.api.v1.invoices.retrieve(str(subscription.latest_invoice))
    assert (expired.status, invoice.status) == ("incomplete_expired", "void")


def test_a_subscription_can_be_switched_to_sent_invoices(account, price):
    payer = account.customer()
    subscription = account.api.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}]}
    )
    method = account.api.v1.payment_methods.attach(
        "pm_card_visa", {"customer": payer.id}
    )
    account.api.v1.invoices.pay(
        str(subscription.latest_invoice), {"payment_method": method.id}
    )

    switched = account.api.v1.subscriptions.update(
        subscription.id, {"collection_method": "send_invoice", "days_until_due": 7}
    )

    assert (switched.status, switched.collection_method) == ("active", "send_invoice")


def preview(account, **params):
    return account.api.v1.invoices.create_preview(params)


def change_to(subscription, price, **params):
    """Return the parameters of a change to a price, for the preview and the update."""
    items = [{"id": first_item_id(subscription), "deleted": True}, {"price": price.id}]
    return {"items": items, "proration_behavior": "create_prorations", **params}


def test_a_preview_has_the_prorations_of_a_change_and_the_next_period(account, price):
    growth = contract_builders.monthly_price(account, 2_500)
    subscription = contract_builders.subscription(account, price)
    at = subscription.items.data[0].current_period_start + 9 * DAY
    account.advance(10 * DAY)

    found = preview(
        account,
        subscription=subscription.id,
        subscription_details=change_to(subscription, growth, proration_date=at),
    )

    now = [line for line in found.lines.data if line.period.start == at]
    later = [line for line in found.lines.data if line.period.start > at]
    assert found.id.startswith("upcoming_in")
    assert len(now) == 2 and len(later) == 1
    assert all(line.parent.subscription_item_details.proration for line in now)
    assert not later[0].parent.subscription_item_details.proration
    period = subscription.items.data[0]
    assert later[0].period.start == period.current_period_end
    assert later[0].amount == 2_500
    assert found.total == sum(line.amount for line in [*now, *later])


def test_a_preview_changes_nothing(account, price):
    growth = contract_builders.monthly_price(account, 2_500)
    subscription = contract_builders.subscription(account, price)
    account.advance(5 * DAY)

    for details in (change_to(subscription, growth), {"cancel_now": True}):
        preview(account, subscription=subscription.id, subscription_details=details)

    read = account.api.v1.subscriptions.retrieve(subscription.id)
    assert [item.price.id for item in read.items.data] == [price.id]
    assert (read.status, read.latest_invoice) == ("active", subscription.latest_invoice)
    assert contract_builders.pending(account, str(subscription.customer)) == []


def test_an_update_with_the_proration_date_of_a_preview_costs_the_same(account, price):
    growth = contract_builders.monthly_price(account, 2_500)
    subscription = contract_builders.subscription(account, price)
    at = subscription.items.data[0].current_period_start + 9 * DAY
    account.advance(10 * DAY)
    change = change_to(subscription, growth, proration_date=at)
    found = preview(account, subscription=subscription.id, subscription_details=change)

    account.advance(2 * DAY)
    account.api.v1.subscriptions.update(subscription.id, change)

    items = contract_builders.pending(account, str(subscription.customer))
    previewed = [line.amount for line in found.lines.data if line.period.start == at]
    assert sorted(item.amount for item in items) == sorted(previewed)
    assert {item.period.start for item in items} == {at}


def test_a_proration_date_before_the_period_is_refused(account, price):
    growth = contract_builders.monthly_price(account, 2_500)
    subscription = contract_builders.subscription(account, price)
    early = subscription.items.data[0].current_period_start - DAY

    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.api.v1.subscriptions.update(
            subscription.id, change_to(subscription, growth, proration_date=early)
        )

    assert refused.value.http_status == 400


def test_the_first_invoice_of_a_new_subscription_is_previewed(account, price):
    payer = account.customer()

    found = preview(
        account,
        customer=payer.id,
        subscription_details={"items": [{"price": price.id, "quantity": 2}]},
    )

    assert [(line.amount, line.quantity) for line in found.lines.data] == [(2_000, 2)]
    assert account.api.v1.subscriptions.list({"customer": payer.id}).data == []


def test_the_preview_of_a_cancellation_credits_the_unused_time(account, price):
    subscription = contract_builders.subscription(account, price)
    contract_builders.first_invoice(account, subscription)
    account.advance(10 * DAY)

    found = preview(
        account,
        subscription=subscription.id,
        subscription_details={
            "cancel_now": True,
            "proration_behavior": "create_prorations",
        },
    )

    (line,) = found.lines.data
    assert -1_000 < line.amount < 0
    assert found.total == line.amount
