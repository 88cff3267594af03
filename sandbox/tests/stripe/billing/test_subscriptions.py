"""Subscriptions: creation, items, cancellation, lists."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR


def test_subscription_is_active_with_draft_for_first_period(api):
    basic = builders.price(api)

    subscription = builders.subscription(
        api, basic, quantity=3, metadata={"tenant": "ab"}
    )

    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)
    item = subscription.items.data[0]
    assert subscription.status == "active"
    assert subscription.billing_mode.type == "flexible"
    assert "current_period_end" not in subscription.to_dict()
    assert invoice.status == "draft"
    assert invoice.billing_reason == "subscription_create"
    assert invoice.automatically_finalizes_at == invoice.created + HOUR
    assert invoice.parent.subscription_details.metadata["tenant"] == "ab"
    line = invoice.lines.data[0]
    assert (line.amount, line.quantity) == (3_000, 3)
    assert line.description == "3 × Relay (at $10.00 / month)"
    assert line.pricing.price_details.price == basic.id
    assert line.parent.subscription_item_details.subscription_item == item.id
    assert line.period.end == item.current_period_end


def test_invoice_has_snapshot_of_subscription_metadata(api):
    subscription = builders.subscription(api, metadata={"tenant": "ab"})

    api.v1.subscriptions.update(subscription.id, {"metadata": {"tenant": "cd"}})

    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)
    assert invoice.parent.subscription_details.metadata["tenant"] == "ab"


def create_error(api, **params):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        builders.subscription(api, **params)
    return caught.value


def test_send_invoice_needs_email(api):
    customer = api.v1.customers.create({})

    error = create_error(api, to=customer)

    assert error.user_message == (
        "Missing email. In order to create invoices that are sent to the customer, the "
        "customer must have a valid email."
    )
    assert api.v1.subscriptions.list().data == []


def test_send_invoice_needs_days_until_due(api):
    with pytest.raises(stripe.InvalidRequestError, match="days_until_due"):
        api.v1.subscriptions.create(
            {
                "customer": builders.customer(api).id,
                "items": [{"price": builders.price(api).id}],
                "collection_method": "send_invoice",
            }
        )


def test_new_items_with_same_price_are_refused(api):
    basic = builders.price(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        builders.subscription(api, basic, basic)

    assert caught.value.user_message == (
        f"Cannot add multiple subscription items with the same plan: {basic.id}"
    )


def test_update_that_gives_two_items_same_price_is_refused(api):
    basic, growth = builders.price(api), builders.price(api)
    subscription = builders.subscription(api, basic, growth)

    for change in (
        {"price": basic.id},
        {"id": subscription.items.data[1].id, "price": basic.id},
    ):
        with pytest.raises(stripe.InvalidRequestError, match="same plan"):
            api.v1.subscriptions.update(subscription.id, {"items": [change]})

    after = api.v1.subscriptions.retrieve(subscription.id)
    assert [item.price.id for item in after.items.data] == [basic.id, growth.id]
    assert not api.v1.invoice_items.list().data


def test_subscription_has_at_most_twenty_items(api):
    prices = [builders.price(api) for _ in range(21)]

    assert len(builders.subscription(api, *prices[:20]).items.data) == 20
    with pytest.raises(stripe.InvalidRequestError, match="at most 20 items"):
        builders.subscription(api, *prices)


def test_last_item_cannot_be_deleted(api):
    subscription = builders.subscription(api)
    removal = {"id": subscription.items.data[0].id, "deleted": True}

    with pytest.raises(stripe.InvalidRequestError, match="at least one active plan"):
        api.v1.subscriptions.update(subscription.id, {"items": [removal]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda api: builders.price(api, recurring=None), "type=one_time"),
        (lambda api: builders.price(api, active=False), "inactive"),
    ],
)
def test_only_active_recurring_prices_are_accepted(api, make, message):
    with pytest.raises(stripe.InvalidRequestError, match=message):
        builders.subscription(api, make(api))


def test_unknown_price_is_named_in_error(api):
    customer = builders.customer(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.subscriptions.create(
            {"customer": customer.id, "items": [{"price": "price_x"}]}
        )

    assert caught.value.code == "resource_missing"
    assert caught.value.param == "items[0][price]"
    assert caught.value.user_message == "No such price: 'price_x'"


def incomplete_subscription(api):
    payer = builders.customer(api)
    return builders.automatic(api, to=payer)


def test_subscription_without_card_starts_incomplete_and_expires_after_23_hours(
    api, stripe_sandbox
):
    subscription = incomplete_subscription(api)
    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)
    assert (subscription.status, invoice.status) == ("incomplete", "open")

    stripe_sandbox.advance(23 * HOUR + 1)

    assert api.v1.subscriptions.retrieve(subscription.id).status == "incomplete_expired"
    assert api.v1.invoices.retrieve(invoice.id).status == "void"
    assert api.v1.subscriptions.list().data == []


def test_paying_first_invoice_activates_incomplete_subscription(api):
    subscription = incomplete_subscription(api)

    api.v1.invoices.pay(subscription.latest_invoice, {"paid_out_of_band": True})

    assert api.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_first_invoice_is_paid_at_once_with_payment_method(api):
    payer = builders.customer(api)
    card = api.v1.payment_methods.attach("pm_card_visa", {"customer": payer.id})

    subscription = builders.automatic(api, to=payer, default_payment_method=card.id)

    assert subscription.status == "active"
    assert api.v1.invoices.retrieve(subscription.latest_invoice).status == "paid"


def test_cancelling_ends_subscription_at_once(api):
    subscription = builders.subscription(api)

    ended = api.v1.subscriptions.cancel(subscription.id)

    assert ended.status == "canceled"
    assert ended.ended_at == ended.canceled_at
    assert ended.cancellation_details.reason == "cancellation_requested"
    assert ended.latest_invoice == subscription.latest_invoice


def test_canceled_subscription_cannot_be_changed(api):
    subscription = builders.subscription(api)
    api.v1.subscriptions.cancel(subscription.id)

    with pytest.raises(stripe.InvalidRequestError) as repeated:
        api.v1.subscriptions.cancel(subscription.id)
    with pytest.raises(stripe.InvalidRequestError) as changed:
        api.v1.subscriptions.update(subscription.id, {"days_until_due": 3})

    assert (repeated.value.http_status, repeated.value.code) == (
        404,
        "resource_missing",
    )
    assert repeated.value.user_message == f"No such subscription: '{subscription.id}'"
    assert changed.value.user_message == (
        "A canceled subscription can only update its cancellation_details and metadata."
    )


def test_cancelling_stops_automatic_collection(api, stripe_sandbox):
    subscription = builders.subscription(api)
    invoice = api.v1.invoices.finalize_invoice(
        subscription.latest_invoice, {"auto_advance": True}
    )

    api.v1.subscriptions.cancel(subscription.id)

    assert invoice.auto_advance
    assert not api.v1.invoices.retrieve(invoice.id).auto_advance


def test_cancel_at_period_end_takes_effect_at_period_end(api, stripe_sandbox):
    subscription = builders.subscription(api)
    api.v1.invoices.pay(
        builders.first_invoice(api, subscription).id, {"paid_out_of_band": True}
    )
    end = subscription.items.data[0].current_period_end

    scheduled = api.v1.subscriptions.update(
        subscription.id, {"cancel_at_period_end": True}
    )
    stripe_sandbox.advance(end - stripe_sandbox.now() - 60)
    before = api.v1.subscriptions.retrieve(subscription.id)
    stripe_sandbox.advance(120)
    after = api.v1.subscriptions.retrieve(subscription.id)

    assert (scheduled.cancel_at, before.status) == (end, "active")
    assert (after.status, after.ended_at) == ("canceled", end)
    assert len(api.v1.invoices.list({"subscription": subscription.id}).data) == 1


def test_list_excludes_ended_subscriptions_by_default(api):
    ended, live = builders.subscription(api), builders.subscription(api)
    api.v1.subscriptions.cancel(ended.id)

    def listed(**params):
        return [
            subscription.id for subscription in api.v1.subscriptions.list(params).data
        ]

    assert listed() == [live.id]
    assert listed(status="all") == [live.id, ended.id]
    assert listed(status="canceled") == listed(status="ended") == [ended.id]
    assert listed(customer=ended.customer) == []
    assert listed(customer=ended.customer, status="all") == [ended.id]


def test_items_with_different_intervals_renew_separately(api, stripe_sandbox):
    monthly = builders.price(api, 100)
    yearly = builders.price(api, 900, recurring={"interval": "year"})
    subscription = builders.subscription(api, monthly, yearly)

    stripe_sandbox.advance(40 * DAY)

    latest = api.v1.subscriptions.retrieve(
        subscription.id, {"expand": ["latest_invoice"]}
    ).latest_invoice
    assert [line.amount for line in latest.lines.data] == [100]


def test_subscription_can_be_created_with_cancel_at_period_end(api, stripe_sandbox):
    subscription = builders.subscription(api, cancel_at_period_end=True)
    end = subscription.items.data[0].current_period_end

    stripe_sandbox.advance(40 * DAY)

    ended = api.v1.subscriptions.retrieve(subscription.id)
    assert (subscription.cancel_at, subscription.status) == (end, "active")
    assert (ended.status, ended.ended_at) == ("canceled", end)


def test_cancel_at_can_be_set_and_unset(api):
    subscription = builders.subscription(api)
    end = subscription.items.data[0].current_period_end

    changed = api.v1.subscriptions.update(subscription.id, {"cancel_at": end})
    undone = api.v1.subscriptions.update(subscription.id, {"cancel_at": ""})

    assert (changed.cancel_at, changed.cancel_at_period_end) == (end, False)
    assert changed.canceled_at
    assert changed.cancellation_details.reason == "cancellation_requested"
    assert (undone.cancel_at, undone.canceled_at) == (None, None)
    assert undone.cancellation_details.reason is None


def test_cancel_at_can_be_several_periods_ahead(api, stripe_sandbox):
    subscription = builders.subscription(
        api, builders.price(api, 700, recurring={"interval": "week"})
    )
    end = subscription.start_date + 21 * DAY

    api.v1.subscriptions.update(
        subscription.id, {"cancel_at": end, "proration_behavior": "none"}
    )
    stripe_sandbox.advance(40 * DAY)

    ended = api.v1.subscriptions.retrieve(subscription.id)
    invoices = api.v1.invoices.list({"subscription": subscription.id}).data
    assert (ended.status, ended.ended_at) == ("canceled", end)
    assert [invoice.total for invoice in invoices] == [700, 700, 700]


def test_cancel_at_within_period_ends_subscription_without_prorations(
    api, stripe_sandbox
):
    subscription = builders.subscription(api)
    at = subscription.start_date + 10 * DAY

    api.v1.subscriptions.update(
        subscription.id, {"cancel_at": at, "proration_behavior": "none"}
    )
    stripe_sandbox.advance(11 * DAY)

    ended = api.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", at)
    assert api.v1.invoice_items.list().data == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda start: {"cancel_at": start + 10 * DAY}, "does not prorate"),
        (lambda start: {"cancel_at": start}, "must be in the future"),
        (lambda start: {"cancel_at": 253_402_300_800}, "less than or equal to"),
        (
            lambda start: {"cancel_at": start + DAY, "cancel_at_period_end": True},
            "only specify one of",
        ),
        (lambda start: {"cancel_at": "max_billed_until"}, "Invalid integer"),
        (lambda start: {"trial_end": "now"}, "unknown parameter"),
        (lambda start: {"payment_behavior": "allow_incomplete"}, "unknown parameter"),
    ],
)
def test_update_with_invalid_or_unsupported_parameters_is_refused(api, make, message):
    subscription = builders.subscription(api)

    with pytest.raises(stripe.InvalidRequestError, match=message):
        api.v1.subscriptions.update(subscription.id, make(subscription.start_date))
    assert api.v1.subscriptions.retrieve(subscription.id).cancel_at is None


def test_cancel_at_period_end_follows_remaining_items(api, stripe_sandbox):
    monthly = builders.price(api)
    yearly = builders.price(api, recurring={"interval": "year"})
    subscription = builders.subscription(api, monthly, yearly)
    ends = {item.price.id: item for item in subscription["items"].data}

    scheduled = api.v1.subscriptions.update(
        subscription.id, {"cancel_at_period_end": True}
    )
    changed = api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": ends[yearly.id].id, "deleted": True}]}
    )
    stripe_sandbox.advance(32 * builders.DAY)

    assert scheduled.cancel_at == ends[yearly.id].current_period_end
    assert changed.cancel_at == ends[monthly.id].current_period_end
    ended = api.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", changed.cancel_at)
    reasons = [invoice.billing_reason for invoice in api.v1.invoices.list().data]
    assert "subscription_cycle" not in reasons
