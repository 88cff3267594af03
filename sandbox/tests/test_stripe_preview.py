"""Previews of invoices: what would be billed, with nothing done."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY


def preview(api, **params):
    return api.v1.invoices.create_preview(params)


def everything(sandbox):
    """Return all records but what keeps answers and the preview's own request."""
    store = sandbox.app.store
    return {
        kind: list(store.scan(kind))
        for kind in store.counts()
        if not kind.startswith("_") or kind == "_item"
    }


def test_a_preview_is_the_next_renewal_and_changes_nothing(api, stripe_sandbox):
    subscribed = story.subscription(api, quantity=2)
    story.first_invoice(api, subscribed)
    before = everything(stripe_sandbox)

    shown = preview(api, subscription=subscribed.id)

    assert everything(stripe_sandbox) == before
    end = subscribed.items.data[0].current_period_end
    assert shown.id.startswith("upcoming_in_")
    assert (shown.billing_reason, shown.status) == ("upcoming", "draft")
    assert (shown.total, shown.created, shown.number) == (2_000, end, None)
    assert shown.lines.data[0].period.start == end
    assert shown.lines.data[0].invoice == shown.id
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.invoices.retrieve(shown.id)


@pytest.mark.parametrize("behavior", ["create_prorations", "always_invoice", "none"])
def test_a_preview_of_a_change_is_what_the_change_then_bills(
    api, stripe_sandbox, behavior
):
    subscribed = story.subscription(api)
    item = subscribed.items.data[0]
    stripe_sandbox.advance(12 * DAY + 345)
    change = {
        "items": [{"id": item.id, "quantity": 3}],
        "proration_behavior": behavior,
        "proration_date": stripe_sandbox.now(),
    }

    shown = preview(api, subscription=subscribed.id, subscription_details=change)
    changed = api.v1.subscriptions.update(subscribed.id, change)
    if behavior != "always_invoice":
        stripe_sandbox.advance(item.current_period_end - stripe_sandbox.now())
        changed = api.v1.subscriptions.retrieve(subscribed.id)

    billed = api.v1.invoices.retrieve(changed.latest_invoice)
    assert billed.id != subscribed.latest_invoice
    assert [(one.amount, one.description) for one in shown.lines.data] == [
        (one.amount, one.description) for one in billed.lines.data
    ]
    assert shown.total == billed.total


def test_a_preview_of_a_cancellation_is_its_final_invoice(api, stripe_sandbox):
    subscribed = story.subscription(api)
    stripe_sandbox.advance(10 * DAY)

    shown = preview(
        api, subscription=subscribed.id, subscription_details={"cancel_now": True}
    )
    ended = api.v1.subscriptions.cancel(
        subscribed.id, {"prorate": True, "invoice_now": True}
    )

    final = api.v1.invoices.retrieve(ended.latest_invoice)
    assert [one.amount for one in shown.lines.data] == [
        one.amount for one in final.lines.data
    ]
    assert shown.total == final.total < 0


def test_the_balance_of_now_counts(api):
    subscribed = story.subscription(api)
    story.first_invoice(api, subscribed)
    api.v1.customers.update(subscribed.customer, {"balance": -300})

    shown = preview(api, customer=subscribed.customer)

    assert (shown.total, shown.amount_due) == (1_000, 700)


def test_a_customers_preview_is_of_the_first_subscription_to_renew(api):
    payer = story.customer(api)
    story.subscription(api, story.price(api, 900), to=payer)
    weekly = story.price(api, 700, recurring={"interval": "week"})
    story.subscription(api, weekly, to=payer)

    assert preview(api, customer=payer.id).total == 700


def test_the_end_of_a_period_bills_what_is_pending(api, stripe_sandbox):
    subscribed = story.subscription(api)
    stripe_sandbox.advance(DAY)
    change = {"id": subscribed.items.data[0].id, "quantity": 2}
    api.v1.subscriptions.update(
        subscribed.id, {"items": [change], "cancel_at_period_end": True}
    )

    shown = preview(api, subscription=subscribed.id)

    assert len(shown.lines.data) == 2
    assert all(
        one.parent.subscription_item_details.proration for one in shown.lines.data
    )


def test_there_may_be_nothing_to_come(api):
    subscribed = story.subscription(api)
    api.v1.subscriptions.update(subscribed.id, {"cancel_at_period_end": True})
    ended = story.subscription(api)
    api.v1.subscriptions.cancel(ended.id)
    nobody = story.customer(api)

    for params in (
        {"subscription": subscribed.id},
        {"subscription": ended.id},
        {"customer": nobody.id},
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
def test_previews_that_are_not_modelled_or_make_no_sense_are_refused(
    api, params, message
):
    with pytest.raises(stripe.InvalidRequestError, match=message):
        preview(api, **params)


def test_a_preview_of_anothers_or_a_new_subscription_is_refused(api):
    subscribed, payer = story.subscription(api), story.customer(api)
    items = [{"price": story.price(api).id}]

    for params, param in (
        ({"subscription": subscribed.id, "customer": payer.id}, "subscription"),
        (
            {"customer": payer.id, "subscription_details": {"items": items}},
            "subscription_details[items]",
        ),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            preview(api, **params)
        assert caught.value.param == param


def test_a_change_that_is_refused_is_refused_in_a_preview_too(api, stripe_sandbox):
    subscribed = story.subscription(api)
    before = everything(stripe_sandbox)
    removal = {"id": subscribed.items.data[0].id, "deleted": True}

    with pytest.raises(stripe.InvalidRequestError, match="at least one active plan"):
        preview(
            api,
            subscription=subscribed.id,
            subscription_details={"items": [removal]},
        )

    assert everything(stripe_sandbox) == before
