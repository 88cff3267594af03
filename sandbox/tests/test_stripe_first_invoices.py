"""First invoices: paid at once, incomplete, expired; and upgrades billed at once."""

import pytest
import stripe

from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
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


def test_the_first_invoice_is_charged_at_once(api, payer):
    mark = story.latest_event(api)

    subscribed = story.automatic(api, to=payer)

    assert subscribed.status == "active"
    assert story.newest_invoice(api, subscribed).status == "paid"
    assert story.types_since(api, mark) == [
        "product.created",
        "price.created",
        "customer.updated",
        "invoice.created",
        "invoice.updated",
        "invoice.finalized",
        *PAID,
        "customer.subscription.created",
    ]


@pytest.mark.parametrize("words", ["card_declined", "requires_action"])
def test_a_first_invoice_that_is_not_paid_leaves_the_subscription_incomplete(
    app, api, payer, words
):
    story.script(api, payer, words)

    subscribed = story.automatic(api, to=payer)

    invoice = story.newest_invoice(api, subscribed)
    assert (subscribed.status, invoice.status) == ("incomplete", "open")
    assert (invoice.attempt_count, invoice.next_payment_attempt) == (1, None)
    app.advance(22 * HOUR)
    assert story.status_of(api, subscribed) == "incomplete"
    app.advance(HOUR)
    assert story.status_of(api, subscribed) == "incomplete_expired"
    assert story.newest_invoice(api, subscribed).status == "void"
    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    assert payment.status == "canceled"
    assert story.event_types(api)[-3:] == [
        "invoice.voided",
        "payment_intent.canceled",
        "customer.subscription.updated",
    ]


def test_an_incomplete_subscription_is_active_once_it_is_paid(app, api, payer):
    story.script(api, payer, "card_declined,succeed")
    subscribed = story.automatic(api, to=payer)
    app.advance(HOUR)

    api.v1.invoices.pay(subscribed.latest_invoice)
    app.advance(23 * HOUR)

    assert story.status_of(api, subscribed) == "active"
    event = api.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert event.data.previous_attributes.status == "incomplete"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("card_declined", "card_declined"),
        ("requires_action", "subscription_payment_intent_requires_action"),
    ],
)
def test_where_incomplete_is_an_error_nothing_is_created(api, payer, words, code):
    story.script(api, payer, words)
    before = story.event_types(api)
    price = story.price(api)

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
    assert story.event_types(api) == [*before, "product.created", "price.created"]


def test_default_incomplete_waits_for_the_intent_to_be_confirmed(api, payer):
    subscribed = story.automatic(
        api,
        to=payer,
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret"],
    )
    invoice = subscribed.to_dict()["latest_invoice"]
    secret = invoice["confirmation_secret"]["client_secret"]
    intent = api.v1.payment_intents.retrieve(secret.partition("_secret_")[0])
    assert (subscribed.status, intent.status) == ("incomplete", "requires_confirmation")
    assert invoice["attempt_count"] == 0

    api.v1.payment_intents.confirm(intent.id)

    assert story.status_of(api, subscribed) == "active"


def test_nothing_due_needs_no_card(api):
    nobody = story.customer(api)

    assert story.automatic(api, to=nobody, amount=0).status == "active"


def test_the_card_that_paid_can_become_the_subscriptions(api, payer):
    saving = {"save_default_payment_method": "on_subscription"}
    at_once = story.automatic(api, to=payer, payment_settings=saving)
    waiting = story.automatic(
        api,
        to=story.customer(api),
        payment_behavior="default_incomplete",
        payment_settings=saving,
    )
    payment = api.v1.invoice_payments.list({"invoice": waiting.latest_invoice}).data[0]

    api.v1.payment_intents.confirm(
        payment.payment.payment_intent, {"payment_method": "pm_card_mastercard"}
    )

    default = payer.invoice_settings.default_payment_method
    assert at_once.default_payment_method == default
    saved = api.v1.subscriptions.retrieve(waiting.id).default_payment_method
    card = api.v1.payment_methods.retrieve(saved)
    assert (card.customer, card.card.brand) == (waiting.customer, "mastercard")


@pytest.mark.parametrize("behavior", ["allow_incomplete", "error_if_incomplete"])
def test_an_upgrade_that_is_billed_at_once_may_fail(api, payer, behavior):
    subscribed = story.automatic(api, to=payer)
    item = subscribed.items.data[0].id
    story.script(api, payer, "card_declined")
    upgrade = {
        "items": [{"id": item, "quantity": 3}],
        "proration_behavior": "always_invoice",
        "payment_behavior": behavior,
    }

    if behavior == "allow_incomplete":
        assert api.v1.subscriptions.update(subscribed.id, upgrade).status == "past_due"
        return
    with pytest.raises(stripe.CardError) as caught:
        api.v1.subscriptions.update(subscribed.id, upgrade)
    api.v1.payment_methods.detach(payer.invoice_settings.default_payment_method)
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        api.v1.subscriptions.update(subscribed.id, upgrade)
    after = api.v1.subscriptions.retrieve(subscribed.id)
    assert caught.value.code == "card_declined"
    assert (after.status, after.items.data[0].quantity) == ("active", 1)


def test_an_incomplete_subscription_changes_only_its_metadata(api):
    subscribed = story.automatic(api, to=story.customer(api))
    item = subscribed["items"].data[0].id
    preview = {"subscription": subscribed.id}

    for change in ({"items": [{"id": item, "quantity": 3}]}, {"description": "A"}):
        with pytest.raises(stripe.InvalidRequestError, match="`incomplete`"):
            api.v1.subscriptions.update(subscribed.id, change)
    with pytest.raises(stripe.InvalidRequestError, match="`incomplete`"):
        api.v1.subscription_items.update(item, {"quantity": 3})
    changed = api.v1.subscriptions.update(subscribed.id, {"metadata": {"a": "b"}})

    assert (changed.status, changed.metadata.to_dict()) == ("incomplete", {"a": "b"})
    assert changed["items"].data[0].quantity == 1
    assert api.v1.invoices.create_preview(preview).total == 1_000


def test_pending_if_incomplete_is_for_updates(api, payer):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        story.automatic(api, to=payer, payment_behavior="pending_if_incomplete")

    assert caught.value.param == "payment_behavior"
    assert api.v1.subscriptions.list({"status": "all"}).data == []


@pytest.mark.parametrize("behavior", ["default_incomplete", "pending_if_incomplete"])
def test_an_update_that_is_to_wait_for_its_payment_is_not_charged(api, payer, behavior):
    subscribed = story.automatic(api, to=payer)
    change = {
        "items": [{"id": subscribed["items"].data[0].id, "quantity": 3}],
        "payment_behavior": behavior,
    }

    with pytest.raises(stripe.InvalidRequestError, match="does not model") as caught:
        api.v1.subscriptions.update(
            subscribed.id, {**change, "proration_behavior": "always_invoice"}
        )
    later = api.v1.subscriptions.update(subscribed.id, change)

    assert caught.value.param == "payment_behavior"
    assert later.latest_invoice == subscribed.latest_invoice
    assert later["items"].data[0].quantity == 3
