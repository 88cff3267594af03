"""Customer balances and their transactions."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY


def adjust(api, customer, amount, **params):
    return api.v1.customers.balance_transactions.create(
        customer, {"amount": amount, "currency": "usd", **params}
    )


def ledger(api, customer):
    """Return type, amount and ending balance of all transactions, oldest first."""
    page = api.v1.customers.balance_transactions.list(customer, {"limit": 100})
    return [
        (transaction.type, transaction.amount, transaction.ending_balance)
        for transaction in reversed(page.data)
    ]


def test_each_balance_change_has_a_transaction_with_the_ending_balance(api):
    payer = builders.customer(api)

    adjust(api, payer.id, -700)
    adjust(api, payer.id, 500)
    invoice = builders.first_invoice(api, builders.subscription(api, to=payer))
    api.v1.invoices.void_invoice(invoice.id)

    assert ledger(api, payer.id) == [
        ("adjustment", -700, -700),
        ("adjustment", 500, -200),
        ("applied_to_invoice", 200, 0),
        ("unapplied_from_invoice", -200, -200),
    ]


def test_balance_change_emits_customer_updated(api):
    payer = builders.customer(api)

    adjust(api, payer.id, -300)

    event = api.v1.events.list().data[0]
    assert event.type == "customer.updated"
    assert event.data.previous_attributes["balance"] == 0
    assert event.data.object.balance == -300


def test_second_currency_is_refused_once_customer_has_balance(api):
    payer = builders.customer(api)
    adjust(api, payer.id, -300)

    for request in (
        lambda: adjust(api, payer.id, -300, currency="eur"),
        lambda: api.v1.invoice_items.create(
            {"customer": payer.id, "amount": 100, "currency": "eur"}
        ),
    ):
        with pytest.raises(
            stripe.InvalidRequestError, match="cannot combine currencies"
        ) as caught:
            request()
        assert caught.value.param == "currency"
    assert api.v1.customers.retrieve(payer.id).balance == -300


def test_first_amount_sets_customer_currency(api):
    first, second = builders.customer(api), builders.customer(api)
    adjust(api, first.id, -1, currency="eur")
    api.v1.invoice_items.create(
        {"customer": second.id, "amount": 100, "currency": "EUR"}
    )

    for customer in (first, second):
        assert api.v1.customers.retrieve(customer.id).currency == "eur"


@pytest.mark.parametrize("id", ["cus_x", "deleted"])
def test_balance_of_missing_customer_is_404(api, id):
    if id == "deleted":
        id = builders.customer(api).id
        api.v1.customers.delete(id)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        adjust(api, id, -300)

    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


def test_balance_is_applied_only_at_finalization(api):
    payer = builders.customer(api)
    adjust(api, payer.id, -300)
    first, second = (builders.subscription(api, to=payer) for _ in range(2))

    drafts = [
        api.v1.invoices.retrieve(subscription.latest_invoice).amount_due
        for subscription in (first, second)
    ]
    dues = [
        builders.first_invoice(api, subscription).amount_due
        for subscription in (first, second)
    ]

    assert (drafts, dues) == ([700, 700], [700, 1_000])


def test_debit_balance_is_billed_with_next_invoice_and_restored_when_voided(
    api,
):
    payer = builders.customer(api)
    adjust(api, payer.id, 250)

    invoice = builders.first_invoice(api, builders.subscription(api, to=payer))
    api.v1.invoices.void_invoice(invoice.id)

    assert (invoice.amount_due, invoice.ending_balance) == (1_250, 0)
    assert ledger(api, payer.id)[1:] == [
        ("applied_to_invoice", -250, 0),
        ("unapplied_from_invoice", 250, 250),
    ]


def test_negative_invoice_total_becomes_credit(api):
    payer = builders.customer(api)
    api.v1.invoice_items.create(
        {"customer": payer.id, "amount": -334, "currency": "usd"}
    )
    draft = api.v1.invoices.create(
        {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    )

    invoice = api.v1.invoices.finalize_invoice(draft.id)

    assert (invoice.status, invoice.amount_due, invoice.total) == ("paid", 0, -334)
    assert ledger(api, payer.id) == [("applied_to_invoice", -334, -334)]


def test_credit_of_deleted_customer_is_applied_once(api, stripe_sandbox):
    """Drafts of a deleted customer are still finalized and use up its balance."""
    payer = builders.customer(api)
    adjust(api, payer.id, -600)
    drafts = [
        builders.subscription(api, to=payer, collection_method="send_invoice")
        for _ in range(2)
    ]
    api.v1.customers.delete(payer.id)

    dues = [
        api.v1.invoices.finalize_invoice(subscription.latest_invoice).amount_due
        for subscription in drafts
    ]

    assert dues == [400, 1_000]


def test_item_without_subscription_is_billed_with_next_renewal(api, stripe_sandbox):
    payer = builders.customer(api)
    subscription = builders.subscription(api, to=payer)
    item = api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 250, "currency": "usd"}
    )

    stripe_sandbox.advance(32 * DAY)

    latest = api.v1.subscriptions.retrieve(subscription.id).latest_invoice
    invoice = api.v1.invoices.retrieve(latest)
    assert [line.amount for line in invoice.lines.data] == [250, 1_000]
    [billed] = api.v1.invoice_items.list({"customer": payer.id}).data
    assert (billed.id, billed.invoice) == (item.id, invoice.id)
