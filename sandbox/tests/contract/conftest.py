"""Fixture `account`: the sandbox, and a real test account if its key is set."""

import os
from collections.abc import Iterator

import pytest
import stripe

from billing.clients.stripe.client import API_VERSION
from sandbox.tests.support.stripe import contract_builders
from sandbox.tests.support.stripe.contract_account import (
    Account,
    SandboxAccount,
    TestClockAccount,
)

KEY = "STRIPE_TEST_SECRET_KEY"


@pytest.fixture(params=["sandbox", "stripe"] if os.environ.get(KEY) else ["sandbox"])
def account(request) -> Iterator[Account]:
    """The Stripe account under test."""
    if request.param == "sandbox":
        yield SandboxAccount(
            request.getfixturevalue("stripe_sandbox"), request.getfixturevalue("api")
        )
        return
    real = TestClockAccount(_real_client(os.environ[KEY]))
    yield real
    real.close()


@pytest.fixture
def price(account) -> stripe.Price:
    """A monthly price of $10.00."""
    return contract_builders.monthly_price(account, 1_000)


def _real_client(key: str) -> stripe.StripeClient:
    if not key.startswith(("sk_test_", "rk_test_")):
        raise pytest.UsageError(f"{KEY} is not the key of a test account")
    return stripe.StripeClient(key, stripe_version=API_VERSION, max_network_retries=2)
