"""Accounts and modes (docs.stripe.com/api/accounts, docs.stripe.com/keys)."""

import pytest
import stripe

from sandbox.stripe.client.testing import running_sandbox
from sandbox.tests.support.stripe import builders


@pytest.fixture
def sandbox():
    """Own server, as an account cannot be removed from it."""
    with running_sandbox(account="acct_first") as sandbox:
        yield sandbox


def test_key_belongs_to_an_account(sandbox):
    account = sandbox.client().v1.accounts.retrieve_current()

    assert account.id == "acct_first"
    assert "livemode" not in account


def test_objects_of_another_account_do_not_exist(sandbox):
    other = sandbox.add_account("sk_test_other", "acct_second").client()
    customer = builders.customer(sandbox.client())

    with pytest.raises(stripe.InvalidRequestError) as caught:
        other.v1.customers.retrieve(customer.id)

    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    assert other.v1.accounts.retrieve_current().id == "acct_second"
    assert other.v1.customers.list().data == []


def test_objects_of_a_live_key_are_live(sandbox):
    live = sandbox.add_account("sk_live_other", "acct_first").client()

    price = builders.price(live)

    assert (price.livemode, builders.price(sandbox.client()).livemode) == (True, False)
    assert live.v1.events.list().data[0].livemode


def test_unknown_live_key_is_refused(sandbox):
    sandbox.api_key = "sk_live_unknown"

    with pytest.raises(stripe.AuthenticationError):
        sandbox.client().v1.accounts.retrieve_current()
