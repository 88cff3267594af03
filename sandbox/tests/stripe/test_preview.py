"""Previews of invoices."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as builders
from sandbox.tests.support.stripe_builders import DAY


def preview(api, **params):
    return api.v1.invoices.create_preview(params)


def all_records(sandbox):
    """Return all records, except those of the request log and idempotency keys."""
    store = sandbox.app.store
    return {
        kind: list(store.scan(kind))
        for kind in store.counts()
        if not kind.startswith("_") or kind == "_item"
    }


def test_preview_is_next_renewal_and_changes_nothing(api, stripe_sandbox):
    subscription = builders.subscription(api, quantity=2)
    builders.first_invoice(api, subscription)
    before = all_records(stripe_sandbox)

    upcoming = preview(api, subscription=subscription.id)

    assert all_records(stripe_sandbox) == before
    end = subscription.items.data[0].current_period_end
    assert upcoming.id.startswith("upcoming_in_")
    assert (upcoming.billing_reason, upcoming.status) == ("upcoming", "draft")
    assert (upcoming.total, upcoming.created, upcoming.number) == (2_000, end, None)
    assert upcoming.lines.data[0].period.start == end
    assert upcoming.lines.data[0].invoice == upcoming.id
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.invoices.retrieve(upcoming.id)


@pytest.mark.parametrize("behavior", ["create_prorations", "always_invoice", "none"])
def test_preview_of_change_matches_later_invoice(api, stripe_sandbox, behavior):
    subscription = builders.subscription(api)
    item = subscription.items.data[0]
    stripe_sandbox.advance(12 * DAY + 345)
    change = {
        "items": [{"id": item.id, "quantity": 3}],
        "proration_behavior": behavior,
        "proration_date": stripe_sandbox.now(),
    }

    upcoming = preview(api, subscription=subscription.id, subscription_details=change)
    changed = api.v1.subscriptions.update(subscription.id, change)
    if behavior != "always_invoice":
        stripe_sandbox.advance(item.current_period_end - stripe_sandbox.now())
        changed = api.v1.subscriptions.retrieve(subscription.id)

    actual = api.v1.invoices.retrieve(changed.latest_invoice)
    assert actual.id != subscription.latest_invoice
    assert [(line.amount, line.description) for line in upcoming.lines.data] == [
        (line.amount, line.description) for line in actual.lines.data
    ]
    assert upcoming.total == actual.total


def test_preview_of_cancellation_matches_final_invoice(api, stripe_sandbox):
    subscription = builders.subscription(api)
    stripe_sandbox.advance(10 * DAY)

    upcoming = preview(
        api, subscription=subscription.id, subscription_details={"cancel_now": True}
    )
    ended = api.v1.subscriptions.cancel(
        subscription.id, {"prorate": True, "invoice_now": True}
    )

    final = api.v1.invoices.retrieve(ended.latest_invoice)
    assert [line.amount for line in upcoming.lines.data] == [
        line.amount for line in final.lines.data
    ]
    assert upcoming.total == final.total < 0


def test_preview_applies_current_balance(api):
    subscription = builders.subscription(api)
    builders.first_invoice(api, subscription)
    api.v1.customers.update(subscription.customer, {"balance": -300})

    upcoming = preview(api, customer=subscription.customer)

    assert (upcoming.total, upcoming.amount_due) == (1_000, 700)


def test_preview_by_customer_is_of_first_subscription_to_renew(api):
    payer = builders.customer(api)
    builders.subscription(api, builders.price(api, 900), to=payer)
    weekly = builders.price(api, 700, recurring={"interval": "week"})
    builders.subscription(api, weekly, to=payer)

    assert preview(api, customer=payer.id).total == 700


def test_preview_of_ending_subscription_bills_pending_items(api, stripe_sandbox):
    subscription = builders.subscription(api)
    stripe_sandbox.advance(DAY)
    change = {"id": subscription.items.data[0].id, "quantity": 2}
    api.v1.subscriptions.update(
        subscription.id, {"items": [change], "cancel_at_period_end": True}
    )

    upcoming = preview(api, subscription=subscription.id)

    assert len(upcoming.lines.data) == 2
    assert all(
        line.parent.subscription_item_details.proration for line in upcoming.lines.data
    )


def test_preview_without_upcoming_invoice_is_404(api):
    subscription = builders.subscription(api)
    api.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    ended = builders.subscription(api)
    api.v1.subscriptions.cancel(ended.id)
    customer = builders.customer(api)

    for params in (
        {"subscription": subscription.id},
        {"subscription": ended.id},
        {"customer": customer.id},
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            preview(api, **params)
        assert (caught.value.http_status, caught.value.code) == (
            404,
            "invoice_upcoming_none",
        )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "must specify"),
        ({"subscription": "sub_x"}, "No such subscription"),
        ({"customer": "cus_x"}, "No such customer"),
        ({"preview_mode": "recurring"}, "preview_mode"),
        ({"schedule": "sub_sched_x"}, "unknown parameter"),
    ],
)
def test_preview_with_invalid_or_unsupported_parameters_is_refused(
    api, params, message
):
    with pytest.raises(stripe.InvalidRequestError, match=message):
        preview(api, **params)


def test_preview_of_another_customers_or_new_subscription_is_refused(api):
    subscription, payer = builders.subscription(api), builders.customer(api)
    items = [{"price": builders.price(api).id}]

    for params, param in (
        ({"subscription": subscription.id, "customer": payer.id}, "subscription"),
        (
            {"customer": payer.id, "subscription_details": {"items": items}},
            "subscription_details[items]",
        ),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            preview(api, **params)
        assert caught.value.param == param


def test_invalid_change_is_refused_in_preview(api, stripe_sandbox):
    subscription = builders.subscription(api)
    before = all_records(stripe_sandbox)
    removal = {"id": subscription.items.data[0].id, "deleted": True}

    with pytest.raises(stripe.InvalidRequestError, match="at least one active plan"):
        preview(
            api,
            subscription=subscription.id,
            subscription_details={"items": [removal]},
        )

    assert all_records(stripe_sandbox) == before
