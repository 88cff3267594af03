"""Customers: deletion and balance."""

from sandbox.tests.support.stripe import contract_builders


def test_deleting_a_customer_cancels_its_subscriptions_at_once(account, price):
    payer = account.customer()
    subscription = contract_builders.subscription(account, price, to=payer)

    account.api.v1.customers.delete(payer.id)

    ended = account.api.v1.subscriptions.retrieve(subscription.id)
    assert ended.status == "canceled"


def test_a_deleted_customer_is_retrieved_as_a_tombstone(account):
    payer = account.customer()

    account.api.v1.customers.delete(payer.id)

    tombstone = account.api.v1.customers.retrieve(payer.id)
    assert tombstone.deleted is True
    assert not hasattr(tombstone, "email")


def test_a_balance_transaction_is_listed_with_its_metadata(account):
    payer = account.customer()
    transactions = account.api.v1.customers.balance_transactions

    created = transactions.create(
        payer.id, {"amount": -250, "currency": "usd", "metadata": {"credit": "17"}}
    )

    listed = transactions.list(payer.id).data
    assert [
        (transaction.id, transaction.metadata["credit"]) for transaction in listed
    ] == [(created.id, "17")]
    assert account.api.v1.customers.retrieve(payer.id).balance == -250


def test_a_balance_is_applied_when_an_invoice_is_finalized_and_not_before(
    account, price
):
    payer = account.customer()
    subscription = contract_builders.subscription(account, price, to=payer)
    account.api.v1.customers.balance_transactions.create(
        payer.id, {"amount": -250, "currency": "usd"}
    )
    before = account.api.v1.customers.retrieve(payer.id).balance

    invoice = contract_builders.first_invoice(account, subscription)

    assert before == -250
    assert (invoice.total, invoice.amount_due) == (1_000, 750)
    assert (invoice.starting_balance, invoice.ending_balance) == (-250, 0)
    assert account.api.v1.customers.retrieve(payer.id).balance == 0


def test_an_amount_below_the_minimum_charge_is_carried_to_the_balance(account):
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
