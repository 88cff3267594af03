"""Fixtures of all tests: a sandbox Stripe on a real socket, and no waiting."""

from collections.abc import Iterator

import pytest

from billing.clients import stripe as stripe_client
from billing.services.prices import ensure_prices
from sandbox.stripe.testing import Sandbox, running_sandbox
from sandbox.tests.conformity import Conformity, watched


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[tuple[Sandbox, Conformity]]:
    with running_sandbox() as sandbox, watched(sandbox.app) as conformity:
        yield sandbox, conformity


@pytest.fixture
def sandbox(_sandbox, settings, monkeypatch) -> Iterator[Sandbox]:
    """An empty Stripe that the application is connected to.

    Whatever it is sent and answers must be as stripe-python's types say.
    """
    stripe, conformity = _sandbox
    stripe.reset()
    settings.STRIPE_API_BASE = stripe.url
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = 100_000
    monkeypatch.setattr(stripe_client, "pause_for", lambda seconds: None)
    yield stripe
    stripe.clear_faults()
    assert conformity.take() == []


@pytest.fixture
def prices(sandbox, db) -> dict[str, str]:
    """The ids at Stripe of the plans' prices, by plan."""
    return {
        price.plan_id: price.price_id for price in ensure_prices(stripe_client.Stripe())
    }
