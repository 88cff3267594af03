"""Customers: what stays of a deleted one, and its balance."""

from sandbox.tests.support import contract_builders


def test_deleting_a_customer_cancels_its_subscriptions_at_once(account, price):
    payer = account.customer()
    subscribed = contract_builders.subscription(account, price, to=payer)

    account.api.v1.customers.delete(payer.id)

    ended = account.api.v1.subscriptions.retrieve(subscribed.id)
    assert ended.status == "canceled"


def test_a_deleted_customer_is_retrieved_as_a_tombstone(account):
    payer = account.customer()

    account.api.v1.customers.delete(payer.id)

    left = account.api.v1.customers.retrieve(payer.id)
    assert left.deleted is True
    assert not hasattr(left, "email")


def test_a_balance_transaction_is_found_again_by_its_metadata(account):
    payer = account.customer()
    transactions = account.api.v1.customers.balance_transactions

    made = transactions.create(
        payer.id, {"amount": -250, "currency": "usd", "metadata": {"credit": "17"}}
    )

    found = transactions.list(payer.id).data
    assert [(one.id, one.metadata["credit"]) for one in found] == [(made.id, "17")]
    assert account.api.v1.customers.retrieve(payer.id).balance == -250


def test_a_balance_is_applied_when_an_invoice_is_finalized_and_not_before(
    account, price
):
    payer = account.customer()
    subscribed = contract_builders.subscription(account, price, to=payer)
    account.api.v1.customers.balance_transactions.create(
        payer.id, {"amount": -250, "currency": "usd"}
    )
    before = account.api.v1.customers.retrieve(payer.id).balance

    invoice = contract_builders.first_invoice(account, subscribed)

    assert before == -250
    assert (invoice.total, invoice.amount_due) == (1_000, 750)
    assert (invoice.starting_balance, invoice.ending_balance) == (-250, 0)
    assert account.api.v1.customers.retrieve(payer.id).balance == 0


def test_what_is_below_the_minimum_charge_is_carried_to_the_balance(account):
    payer = account.customer()
    account.api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 20, "currency": "usd"}
    )
    draft = account.api.v1.invoices.create(
        {
            "customer": payer.id,
            "collection_method": "send_invoice",
            "days_until_due": 7,
            "pending_invoice_items_behavior": "include",
        }
    )

    invoice = account.api.v1.invoices.finalize_invoice(draft.id)

    assert (invoice.status, invoice.amount_due) == ("paid", 0)
    assert account.api.v1.customers.retrieve(payer.id).balance == 20
