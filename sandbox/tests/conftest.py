"""Fixtures for the tests of the sandbox Stripe."""

from collections.abc import Iterator

import pytest
import stripe

from sandbox.stripe.testing import Sandbox, running_sandbox


@pytest.fixture(scope="session")
def _stripe_server() -> Iterator[Sandbox]:
    with running_sandbox(retry_delays=(0.01,)) as sandbox:
        yield sandbox


@pytest.fixture
def stripe_sandbox(_stripe_server: Sandbox) -> Iterator[Sandbox]:
    """An empty sandbox on a real socket."""
    _stripe_server.reset()
    yield _stripe_server
    _stripe_server.clear_faults()
    _stripe_server.pause_webhooks(False)


@pytest.fixture
def api(stripe_sandbox: Sandbox) -> Iterator[stripe.StripeClient]:
    """A client of the sandbox, over HTTP."""
    transport = stripe.RequestsClient(timeout=20)
    yield stripe_sandbox.client(http_client=transport)
    transport.close()
