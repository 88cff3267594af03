"""Customer balances: how they come about, when they are applied, where they go."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY


def adjust(api, customer, amount, **params):
    return api.v1.customers.balance_transactions.create(
        customer, {"amount": amount, "currency": "usd", **params}
    )


def ledger(api, customer):
    """Return type, amount and balance after each transaction, oldest first."""
    listed = api.v1.customers.balance_transactions.list(customer, {"limit": 100})
    return [(one.type, one.amount, one.ending_balance) for one in reversed(listed.data)]


def test_every_change_is_a_transaction_that_says_what_is_left(api):
    payer = story.customer(api)

    adjust(api, payer.id, -700)
    api.v1.customers.update(payer.id, {"balance": -200})
    invoice = story.first_invoice(api, story.subscription(api, to=payer))
    api.v1.invoices.void_invoice(invoice.id)

    assert ledger(api, payer.id) == [
        ("adjustment", -700, -700),
        ("adjustment", 500, -200),
        ("applied_to_invoice", 200, 0),
        ("unapplied_from_invoice", -200, -200),
    ]


def test_a_customer_may_start_with_a_balance(api):
    payer = story.customer(api, balance=-300)

    assert (payer.balance, payer.currency) == (-300, "usd")
    assert ledger(api, payer.id) == [("initial", -300, -300)]
    assert story.event_types(api) == ["customer.created"]


def test_a_change_of_balance_is_told_as_a_change_of_the_customer(api):
    payer = story.customer(api)

    adjust(api, payer.id, -300)

    event = api.v1.events.list().data[0]
    assert event.type == "customer.updated"
    assert event.data.previous_attributes["balance"] == 0
    assert event.data.object.balance == -300


def test_a_balance_is_of_one_currency(api):
    payer = story.customer(api)
    adjust(api, payer.id, -300)

    for act in (
        lambda: adjust(api, payer.id, -300, currency="eur"),
        lambda: api.v1.invoice_items.create(
            {"customer": payer.id, "amount": 100, "currency": "eur"}
        ),
        lambda: api.v1.invoices.create({"customer": payer.id, "currency": "eur"}),
    ):
        with pytest.raises(
            stripe.InvalidRequestError, match="cannot combine currencies"
        ) as caught:
            act()
        assert caught.value.param == "currency"
    assert api.v1.customers.retrieve(payer.id).balance == -300


def test_the_first_money_of_a_customer_sets_its_currency(api):
    adjusted, itemed, invoiced = (story.customer(api) for _ in range(3))
    adjust(api, adjusted.id, -1, currency="eur")
    api.v1.invoice_items.create(
        {"customer": itemed.id, "amount": 100, "currency": "EUR"}
    )
    api.v1.invoices.create({"customer": invoiced.id, "currency": "eur"})

    for made in (adjusted, itemed, invoiced):
        assert api.v1.customers.retrieve(made.id).currency == "eur"


def test_a_transaction_belongs_to_one_customer(api):
    one, other = story.customer(api), story.customer(api)
    transaction = adjust(api, one.id, -300)
    transactions = api.v1.customers.balance_transactions

    changed = transactions.update(one.id, transaction.id, {"description": "Thanks"})

    assert changed.description == "Thanks"
    for act in (transactions.retrieve, transactions.update):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            act(other.id, transaction.id)
        assert (caught.value.http_status, caught.value.code) == (
            404,
            "resource_missing",
        )


@pytest.mark.parametrize("id", ["cus_x", "deleted"])
def test_no_balance_of_a_customer_that_is_not_there(api, id):
    if id == "deleted":
        id = story.customer(api).id
        api.v1.customers.delete(id)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        adjust(api, id, -300)

    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


def test_only_finalization_applies_the_balance(api):
    payer = story.customer(api)
    adjust(api, payer.id, -300)
    first, second = (story.subscription(api, to=payer) for _ in range(2))

    drafts = [
        api.v1.invoices.retrieve(one.latest_invoice).amount_due
        for one in (first, second)
    ]
    dues = [story.first_invoice(api, one).amount_due for one in (first, second)]

    assert (drafts, dues) == ([700, 700], [700, 1_000])


def test_a_debt_is_asked_for_with_the_next_invoice_and_given_back_when_that_is_void(
    api,
):
    payer = story.customer(api)
    adjust(api, payer.id, 250)

    invoice = story.first_invoice(api, story.subscription(api, to=payer))
    api.v1.invoices.void_invoice(invoice.id)

    assert (invoice.amount_due, invoice.ending_balance) == (1_250, 0)
    assert ledger(api, payer.id)[1:] == [
        ("applied_to_invoice", -250, 0),
        ("unapplied_from_invoice", 250, 250),
    ]


def test_a_negative_invoice_becomes_credit(api):
    payer = story.customer(api)
    api.v1.invoice_items.create(
        {"customer": payer.id, "amount": -334, "currency": "usd"}
    )
    draft = api.v1.invoices.create(
        {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    )

    invoice = api.v1.invoices.finalize_invoice(draft.id)

    assert (invoice.status, invoice.amount_due, invoice.total) == ("paid", 0, -334)
    assert ledger(api, payer.id) == [("applied_to_invoice", -334, -334)]


def test_a_deleted_customers_credit_is_spent_once(api, stripe_sandbox):
    """Its drafts are still finalized; nobody can read its balance any more."""
    payer = story.customer(api)
    adjust(api, payer.id, -600)
    drafts = [
        story.subscription(api, to=payer, collection_method="send_invoice")
        for _ in range(2)
    ]
    api.v1.customers.delete(payer.id)

    dues = [
        api.v1.invoices.finalize_invoice(one.latest_invoice).amount_due
        for one in drafts
    ]

    assert dues == [400, 1_000]


def test_a_loose_item_is_billed_with_the_next_scheduled_invoice(api, stripe_sandbox):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    item = api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 250, "currency": "usd"}
    )

    stripe_sandbox.advance(32 * DAY)

    latest = api.v1.subscriptions.retrieve(subscribed.id).latest_invoice
    invoice = api.v1.invoices.retrieve(latest)
    assert [line.amount for line in invoice.lines.data] == [250, 1_000]
    assert api.v1.invoice_items.retrieve(item.id).invoice == invoice.id
