"""Fixtures for the tests of the sandbox Stripe."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.testing import Sandbox, running_sandbox
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.conformance import (
    ConformanceChecker,
    check_conformance,
)


@pytest.fixture(scope="session")
def _stripe_server() -> Iterator[tuple[Sandbox, ConformanceChecker]]:
    with (
        running_sandbox(retry_delays=(0.01,)) as sandbox,
        check_conformance(sandbox.app) as conformity,
    ):
        yield sandbox, conformity


@pytest.fixture
def stripe_sandbox(
    _stripe_server: tuple[Sandbox, ConformanceChecker],
) -> Iterator[Sandbox]:
    """An empty sandbox on a real socket; its answers are checked against the SDK."""
    sandbox, conformity = _stripe_server
    sandbox.reset()
    yield sandbox
    sandbox.clear_faults()
    sandbox.pause_webhooks(False)
    assert conformity.pop_problems() == []


@pytest.fixture
def api(stripe_sandbox: Sandbox) -> Iterator[stripe.StripeClient]:
    """A client of the sandbox, over HTTP."""
    transport = stripe.RequestsClient(timeout=60)
    yield stripe_sandbox.client(http_client=transport)
    transport.close()


@pytest.fixture
def act(stripe_sandbox: Sandbox) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Post a control action; return the status and the JSON."""

    def act(path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        url = f"{stripe_sandbox.url}/_sandbox/{path}"
        answer = requests.post(url, json=body, timeout=60)
        return answer.status_code, answer.json()

    return act


@pytest.fixture
def app() -> Iterator[StripeApp]:
    """A sandbox without a socket; its answers are checked against the SDK."""
    stripe_app = StripeApp(seed=7)
    with check_conformance(stripe_app) as conformity:
        yield stripe_app
    assert conformity.pop_problems() == []


@pytest.fixture
def payer(api: stripe.StripeClient) -> stripe.Customer:
    """A customer with a card that pays."""
    customer = builders.customer(api)
    builders.card(api, customer.id)
    return api.v1.customers.retrieve(customer.id)
