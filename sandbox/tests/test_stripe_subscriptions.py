"""Subscriptions: creation, items, prorations, cancellation, lists."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY, HOUR


def test_a_subscription_is_active_with_a_draft_of_its_first_period(api):
    basic = story.price(api)

    subscribed = story.subscription(api, basic, quantity=3, metadata={"tenant": "ab"})

    invoice = api.v1.invoices.retrieve(subscribed.latest_invoice)
    item = subscribed.items.data[0]
    assert subscribed.status == "active"
    assert subscribed.billing_mode.type == "flexible"
    assert "current_period_end" not in subscribed.to_dict()
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


def test_the_metadata_on_the_invoice_is_a_snapshot(api):
    subscribed = story.subscription(api, metadata={"tenant": "ab"})

    api.v1.subscriptions.update(subscribed.id, {"metadata": {"tenant": "cd"}})

    invoice = api.v1.invoices.retrieve(subscribed.latest_invoice)
    assert invoice.parent.subscription_details.metadata["tenant"] == "ab"


def create_error(api, **params):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        story.subscription(api, **params)
    return caught.value


def test_sending_invoices_needs_an_email(api):
    nobody = api.v1.customers.create({})

    error = create_error(api, to=nobody)

    assert error.user_message == (
        "Missing email. In order to create invoices that are sent to the customer, the "
        "customer must have a valid email."
    )
    assert api.v1.subscriptions.list().data == []


def test_sending_invoices_needs_days_until_due(api):
    with pytest.raises(stripe.InvalidRequestError, match="days_until_due"):
        api.v1.subscriptions.create(
            {
                "customer": story.customer(api).id,
                "items": [{"price": story.price(api).id}],
                "collection_method": "send_invoice",
            }
        )


def test_items_never_share_a_price(api):
    basic = story.price(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        story.subscription(api, basic, basic)

    assert caught.value.user_message == (
        f"Cannot add multiple subscription items with the same plan: {basic.id}"
    )


def test_items_never_come_to_share_a_price(api):
    basic, growth = story.price(api), story.price(api)
    subscribed = story.subscription(api, basic, growth)

    for change in (
        {"price": basic.id},
        {"id": subscribed.items.data[1].id, "price": basic.id},
    ):
        with pytest.raises(stripe.InvalidRequestError, match="same plan"):
            api.v1.subscriptions.update(subscribed.id, {"items": [change]})

    after = api.v1.subscriptions.retrieve(subscribed.id)
    assert [item.price.id for item in after.items.data] == [basic.id, growth.id]
    assert not api.v1.invoice_items.list().data


def test_a_subscription_has_at_most_twenty_items(api):
    prices = [story.price(api) for _ in range(21)]

    assert len(story.subscription(api, *prices[:20]).items.data) == 20
    with pytest.raises(stripe.InvalidRequestError, match="at most 20 items"):
        story.subscription(api, *prices)


def test_the_last_item_cannot_be_removed(api):
    subscribed = story.subscription(api)
    removal = {"id": subscribed.items.data[0].id, "deleted": True}

    with pytest.raises(stripe.InvalidRequestError, match="at least one active plan"):
        api.v1.subscriptions.update(subscribed.id, {"items": [removal]})
    with pytest.raises(stripe.InvalidRequestError, match="at least one active plan"):
        api.v1.subscription_items.delete(removal["id"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda api: story.price(api, recurring=None), "type=one_time"),
        (lambda api: story.price(api, active=False), "inactive"),
    ],
)
def test_only_active_recurring_prices_are_accepted(api, make, message):
    with pytest.raises(stripe.InvalidRequestError, match=message):
        story.subscription(api, make(api))


def test_an_unknown_price_is_named(api):
    made = story.customer(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.subscriptions.create(
            {"customer": made.id, "items": [{"price": "price_x"}]}
        )

    assert caught.value.code == "resource_missing"
    assert caught.value.param == "items[0][price]"
    assert caught.value.user_message == "No such price: 'price_x'"


def incomplete(api):
    payer = story.customer(api)
    return story.automatic(api, to=payer, payment_behavior="default_incomplete")


def test_without_a_card_a_charged_subscription_is_incomplete_and_expires(
    api, stripe_sandbox
):
    subscribed = incomplete(api)
    invoice = api.v1.invoices.retrieve(subscribed.latest_invoice)
    assert (subscribed.status, invoice.status) == ("incomplete", "open")

    stripe_sandbox.advance(23 * HOUR + 1)

    assert api.v1.subscriptions.retrieve(subscribed.id).status == "incomplete_expired"
    assert api.v1.invoices.retrieve(invoice.id).status == "void"
    assert api.v1.subscriptions.list().data == []


def test_paying_the_first_invoice_completes_the_subscription(api):
    subscribed = incomplete(api)

    api.v1.invoices.pay(subscribed.latest_invoice, {"paid_out_of_band": True})

    assert api.v1.subscriptions.retrieve(subscribed.id).status == "active"


@pytest.mark.parametrize("behavior", ["allow_incomplete", "default_incomplete"])
def test_who_cannot_pay_starts_incomplete(api, behavior):
    payer = story.customer(api)

    subscribed = story.automatic(api, to=payer, payment_behavior=behavior)

    invoice = api.v1.invoices.retrieve(subscribed.latest_invoice)
    assert (subscribed.status, invoice.status) == ("incomplete", "open")


def test_who_cannot_pay_is_refused_where_that_is_asked_for(api):
    payer = story.customer(api)

    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        story.automatic(api, to=payer, payment_behavior="error_if_incomplete")
    assert api.v1.invoices.list({"customer": payer.id}).data == []


def test_with_a_payment_method_the_first_invoice_is_paid_at_once(api):
    payer = story.customer(api)
    card = api.v1.payment_methods.attach("pm_card_visa", {"customer": payer.id})

    subscribed = story.automatic(api, to=payer, default_payment_method=card.id)

    assert subscribed.status == "active"
    assert api.v1.invoices.retrieve(subscribed.latest_invoice).status == "paid"


def test_items_are_changed_by_their_own_endpoints(api, stripe_sandbox):
    subscribed = story.subscription(api)
    items = api.v1.subscription_items
    added = items.create(
        {"subscription": subscribed.id, "price": story.price(api).id, "quantity": 2}
    )

    changed = items.update(added.id, {"quantity": 4, "proration_behavior": "none"})

    listed = items.list({"subscription": subscribed.id}).data
    assert [one.quantity for one in listed] == [1, 4]
    assert items.retrieve(added.id).quantity == changed.quantity == 4
    assert items.delete(added.id).deleted
    assert len(api.v1.subscriptions.retrieve(subscribed.id).items.data) == 1


def test_cancelling_ends_at_once_for_the_given_reason(api):
    subscribed = story.subscription(api)

    ended = api.v1.subscriptions.cancel(
        subscribed.id,
        {"cancellation_details": {"comment": "bye", "feedback": "unused"}},
    )

    details = ended.cancellation_details
    assert ended.status == "canceled"
    assert ended.ended_at == ended.canceled_at
    assert (details.reason, details.comment) == ("cancellation_requested", "bye")
    assert ended.latest_invoice == subscribed.latest_invoice


def test_a_canceled_subscription_is_closed_to_changes(api):
    subscribed = story.subscription(api)
    api.v1.subscriptions.cancel(subscribed.id)

    with pytest.raises(stripe.InvalidRequestError) as again:
        api.v1.subscriptions.cancel(subscribed.id)
    with pytest.raises(stripe.InvalidRequestError) as changed:
        api.v1.subscriptions.update(subscribed.id, {"days_until_due": 3})

    assert (again.value.http_status, again.value.code) == (404, "resource_missing")
    assert again.value.user_message == f"No such subscription: '{subscribed.id}'"
    assert changed.value.user_message == (
        "A canceled subscription can only update its cancellation_details and metadata."
    )


def test_cancelling_stops_automatic_collection(api, stripe_sandbox):
    subscribed = story.subscription(api)
    invoice = api.v1.invoices.finalize_invoice(
        subscribed.latest_invoice, {"auto_advance": True}
    )

    api.v1.subscriptions.cancel(subscribed.id)

    assert invoice.auto_advance
    assert not api.v1.invoices.retrieve(invoice.id).auto_advance


def test_cancelling_at_the_end_of_the_period_waits_for_it(api, stripe_sandbox):
    subscribed = story.subscription(api)
    api.v1.invoices.pay(
        story.first_invoice(api, subscribed).id, {"paid_out_of_band": True}
    )
    end = subscribed.items.data[0].current_period_end

    scheduled = api.v1.subscriptions.update(
        subscribed.id, {"cancel_at_period_end": True}
    )
    stripe_sandbox.advance(end - stripe_sandbox.now() - 10)
    before = api.v1.subscriptions.retrieve(subscribed.id)
    stripe_sandbox.advance(20)
    after = api.v1.subscriptions.retrieve(subscribed.id)

    assert (scheduled.cancel_at, before.status) == (end, "active")
    assert (after.status, after.ended_at) == ("canceled", end)
    assert len(api.v1.invoices.list({"subscription": subscribed.id}).data) == 1


def test_lists_leave_ended_subscriptions_out_unless_asked(api):
    ended, live = story.subscription(api), story.subscription(api)
    api.v1.subscriptions.cancel(ended.id)

    def listed(**params):
        return [one.id for one in api.v1.subscriptions.list(params).data]

    assert listed() == [live.id]
    assert listed(status="all") == [live.id, ended.id]
    assert listed(status="canceled") == listed(status="ended") == [ended.id]
    assert listed(customer=ended.customer) == []
    assert listed(customer=ended.customer, status="all") == [ended.id]
    assert listed(price=live.items.data[0].price.id) == [live.id]
    assert listed(collection_method="charge_automatically") == []


def test_a_mix_of_intervals_renews_each_item_in_its_own_time(api, stripe_sandbox):
    monthly = story.price(api, 100)
    yearly = story.price(api, 900, recurring={"interval": "year"})
    subscribed = story.subscription(api, monthly, yearly)

    stripe_sandbox.advance(40 * DAY)

    latest = api.v1.subscriptions.retrieve(
        subscribed.id, {"expand": ["latest_invoice"]}
    ).latest_invoice
    assert [line.amount for line in latest.lines.data] == [100]


def test_a_subscription_may_be_created_with_its_end(api, stripe_sandbox):
    subscribed = story.subscription(api, cancel_at_period_end=True)
    end = subscribed.items.data[0].current_period_end

    stripe_sandbox.advance(40 * DAY)

    ended = api.v1.subscriptions.retrieve(subscribed.id)
    assert (subscribed.cancel_at, subscribed.status) == (end, "active")
    assert (ended.status, ended.ended_at) == ("canceled", end)


@pytest.mark.parametrize("word", ["min_period_end", "max_period_end"])
def test_cancel_at_names_the_end_of_a_period(api, word):
    subscribed = story.subscription(api)
    end = subscribed.items.data[0].current_period_end

    changed = api.v1.subscriptions.update(subscribed.id, {"cancel_at": word})
    kept = api.v1.subscriptions.update(subscribed.id, {"cancel_at": ""})

    assert (changed.cancel_at, changed.cancel_at_period_end) == (end, False)
    assert changed.canceled_at
    assert changed.cancellation_details.reason == "cancellation_requested"
    assert (kept.cancel_at, kept.canceled_at) == (None, None)
    assert kept.cancellation_details.reason is None


def test_cancel_at_may_lie_several_periods_ahead(api, stripe_sandbox):
    subscribed = story.subscription(
        api, story.price(api, 700, recurring={"interval": "week"})
    )
    end = subscribed.start_date + 21 * DAY

    api.v1.subscriptions.update(subscribed.id, {"cancel_at": end})
    stripe_sandbox.advance(40 * DAY)

    ended = api.v1.subscriptions.retrieve(subscribed.id)
    invoices = api.v1.invoices.list({"subscription": subscribed.id}).data
    assert (ended.status, ended.ended_at) == ("canceled", end)
    assert [one.total for one in invoices] == [700, 700, 700]


def test_cancel_at_within_a_period_ends_it_there_without_prorations(
    api, stripe_sandbox
):
    subscribed = story.subscription(api)
    at = subscribed.start_date + 10 * DAY

    api.v1.subscriptions.update(
        subscribed.id, {"cancel_at": at, "proration_behavior": "none"}
    )
    stripe_sandbox.advance(11 * DAY)

    ended = api.v1.subscriptions.retrieve(subscribed.id)
    assert (ended.status, ended.ended_at) == ("canceled", at)
    assert api.v1.invoice_items.list().data == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda start: {"cancel_at": start + 10 * DAY}, "does not prorate"),
        (lambda start: {"cancel_at": start}, "must be in the future"),
        (
            lambda start: {"cancel_at": start + DAY, "cancel_at_period_end": True},
            "only specify one of",
        ),
        (lambda start: {"cancel_at": "max_billed_until"}, "Invalid integer"),
        (lambda start: {"trial_end": "now"}, "unknown parameter"),
        (lambda start: {"pause_collection": {"behavior": "void"}}, "unknown parameter"),
    ],
)
def test_ends_that_are_not_modelled_or_make_no_sense_are_refused(api, make, message):
    subscribed = story.subscription(api)

    with pytest.raises(stripe.InvalidRequestError, match=message):
        api.v1.subscriptions.update(subscribed.id, make(subscribed.start_date))
    assert api.v1.subscriptions.retrieve(subscribed.id).cancel_at is None


def test_an_end_with_the_period_is_that_of_the_items_left(api, stripe_sandbox):
    monthly = story.price(api)
    yearly = story.price(api, recurring={"interval": "year"})
    subscribed = story.subscription(api, monthly, yearly)
    ends = {item.price.id: item for item in subscribed["items"].data}

    scheduled = api.v1.subscriptions.update(
        subscribed.id, {"cancel_at_period_end": True}
    )
    changed = api.v1.subscriptions.update(
        subscribed.id, {"items": [{"id": ends[yearly.id].id, "deleted": True}]}
    )
    stripe_sandbox.advance(32 * story.DAY)

    assert scheduled.cancel_at == ends[yearly.id].current_period_end
    assert changed.cancel_at == ends[monthly.id].current_period_end
    ended = api.v1.subscriptions.retrieve(subscribed.id)
    assert (ended.status, ended.ended_at) == ("canceled", changed.cancel_at)
    reasons = [one.billing_reason for one in api.v1.invoices.list().data]
    assert "subscription_cycle" not in reasons
