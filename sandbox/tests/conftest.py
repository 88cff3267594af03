"""Fixtures for the tests of the sandbox Stripe."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
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


@pytest.fixture
def act(stripe_sandbox: Sandbox) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Post a control action; return its status and JSON."""

    def act(path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        url = f"{stripe_sandbox.url}/_sandbox/{path}"
        answer = requests.post(url, json=body, timeout=10)
        return answer.status_code, answer.json()

    return act
