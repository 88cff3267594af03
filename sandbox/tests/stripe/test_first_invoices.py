"""First invoices: paid at once, incomplete, expired. Upgrades billed at once."""

import pytest
import stripe

from sandbox.stripe.client.in_process import in_process_client
from sandbox.tests.support import stripe_builders as builders
from sandbox.tests.support.stripe_builders import DAY, HOUR

MONTH = 31 * DAY
PAID = [
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
]


@pytest.fixture
def api(app):
    return in_process_client(app)


def test_first_invoice_is_charged_at_once(api, payer):
    mark = builders.latest_event(api)

    subscription = builders.automatic(api, to=payer)

    assert subscription.status == "active"
    assert builders.newest_invoice(api, subscription).status == "paid"
    assert builders.types_since(api, mark) == [
        "product.created",
        "price.created",
        "customer.updated",
        "invoice.created",
        "invoice.updated",
        "invoice.finalized",
        *PAID,
        "customer.subscription.created",
    ]


@pytest.mark.parametrize("script", ["card_declined", "requires_action"])
def test_unpaid_first_invoice_leaves_subscription_incomplete_until_it_expires(
    app, api, payer, script
):
    builders.script(api, payer, script)

    subscription = builders.automatic(api, to=payer)

    invoice = builders.newest_invoice(api, subscription)
    assert (subscription.status, invoice.status) == ("incomplete", "open")
    assert (invoice.attempt_count, invoice.next_payment_attempt) == (1, None)
    app.advance(22 * HOUR)
    assert builders.status_of(api, subscription) == "incomplete"
    app.advance(HOUR)
    assert builders.status_of(api, subscription) == "incomplete_expired"
    assert builders.newest_invoice(api, subscription).status == "void"
    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    assert payment.status == "canceled"
    assert builders.event_types(api)[-3:] == [
        "invoice.voided",
        "payment_intent.canceled",
        "customer.subscription.updated",
    ]


def test_incomplete_subscription_becomes_active_when_paid(app, api, payer):
    builders.script(api, payer, "card_declined,succeed")
    subscription = builders.automatic(api, to=payer)
    app.advance(HOUR)

    api.v1.invoices.pay(subscription.latest_invoice)
    app.advance(23 * HOUR)

    assert builders.status_of(api, subscription) == "active"
    event = api.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert event.data.previous_attributes.status == "incomplete"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("card_declined", "card_declined"),
        ("requires_action", "subscription_payment_intent_requires_action"),
    ],
)
def test_error_if_incomplete_creates_nothing(api, payer, script, code):
    builders.script(api, payer, script)
    before = builders.event_types(api)
    price = builders.price(api)

    with pytest.raises(stripe.CardError) as caught:
        api.v1.subscriptions.create(
            {
                "customer": payer.id,
                "items": [{"price": price.id}],
                "payment_behavior": "error_if_incomplete",
            }
        )

    assert (caught.value.http_status, caught.value.code) == (402, code)
    assert api.v1.subscriptions.list({"status": "all"}).data == []
    assert api.v1.invoices.list().data == []
    assert builders.event_types(api) == [*before, "product.created", "price.created"]


def test_free_subscription_needs_no_card(api):
    customer = builders.customer(api)

    assert builders.automatic(api, to=customer, amount=0).status == "active"


@pytest.mark.parametrize("behavior", ["allow_incomplete", "error_if_incomplete"])
def test_declined_upgrade_is_past_due_or_refused_by_payment_behavior(
    api, payer, behavior
):
    subscription = builders.automatic(api, to=payer)
    item = subscription.items.data[0].id
    builders.script(api, payer, "card_declined")
    upgrade = {
        "items": [{"id": item, "quantity": 3}],
        "proration_behavior": "always_invoice",
        "payment_behavior": behavior,
    }

    if behavior == "allow_incomplete":
        assert (
            api.v1.subscriptions.update(subscription.id, upgrade).status == "past_due"
        )
        return
    with pytest.raises(stripe.CardError) as caught:
        api.v1.subscriptions.update(subscription.id, upgrade)
    api.v1.payment_methods.detach(payer.invoice_settings.default_payment_method)
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        api.v1.subscriptions.update(subscription.id, upgrade)
    after = api.v1.subscriptions.retrieve(subscription.id)
    assert caught.value.code == "card_declined"
    assert (after.status, after.items.data[0].quantity) == ("active", 1)


def test_only_metadata_of_incomplete_subscription_can_be_updated(api):
    subscription = builders.automatic(api, to=builders.customer(api))
    item = subscription["items"].data[0].id
    preview = {"subscription": subscription.id}

    for change in ({"items": [{"id": item, "quantity": 3}]}, {"description": "A"}):
        with pytest.raises(stripe.InvalidRequestError, match="`incomplete`"):
            api.v1.subscriptions.update(subscription.id, change)
    with pytest.raises(stripe.InvalidRequestError, match="`incomplete`"):
        api.v1.subscription_items.update(item, {"quantity": 3})
    changed = api.v1.subscriptions.update(subscription.id, {"metadata": {"a": "b"}})

    assert (changed.status, changed.metadata.to_dict()) == ("incomplete", {"a": "b"})
    assert changed["items"].data[0].quantity == 1
    assert api.v1.invoices.create_preview(preview).total == 1_000


def test_pending_if_incomplete_is_refused_on_creation(api, payer):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        builders.automatic(api, to=payer, payment_behavior="pending_if_incomplete")

    assert caught.value.param == "payment_behavior"
    assert api.v1.subscriptions.list({"status": "all"}).data == []


@pytest.mark.parametrize("behavior", ["default_incomplete", "pending_if_incomplete"])
def test_update_with_pending_payment_is_refused_as_unsupported(api, payer, behavior):
    subscription = builders.automatic(api, to=payer)
    change = {
        "items": [{"id": subscription["items"].data[0].id, "quantity": 3}],
        "payment_behavior": behavior,
    }

    with pytest.raises(stripe.InvalidRequestError, match="does not model") as caught:
        api.v1.subscriptions.update(
            subscription.id, {**change, "proration_behavior": "always_invoice"}
        )
    later = api.v1.subscriptions.update(subscription.id, change)

    assert caught.value.param == "payment_behavior"
    assert later.latest_invoice == subscription.latest_invoice
    assert later["items"].data[0].quantity == 3
