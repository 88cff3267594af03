"""First invoices: paid at once, incomplete, expired. Upgrades billed at once."""

import pytest
import stripe

from sandbox.stripe.client.in_process import in_process_client
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR

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


def test_free_subscription_needs_no_card(api):
    customer = builders.customer(api)

    assert builders.automatic(api, to=customer, amount=0).status == "active"


def test_only_metadata_of_incomplete_subscription_can_be_updated(api):
    subscription = builders.automatic(api, to=builders.customer(api))
    item = subscription["items"].data[0].id

    for change in ({"items": [{"id": item, "quantity": 3}]}, {"days_until_due": 3}):
        with pytest.raises(stripe.InvalidRequestError, match="`incomplete`"):
            api.v1.subscriptions.update(subscription.id, change)
    changed = api.v1.subscriptions.update(subscription.id, {"metadata": {"a": "b"}})

    assert (changed.status, changed.metadata.to_dict()) == ("incomplete", {"a": "b"})
    assert changed["items"].data[0].quantity == 1
