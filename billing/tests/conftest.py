"""What pays: our wallet, tenants' wallets and prices of bitcoin, on real sockets."""

from collections.abc import Iterator

import pytest

from billing.clients import stripe_calls
from billing.tests.world import Ground, ground
from lightning.tests.conftest import (
    _prices,
    alice,
    platform,
    relay,
    wallets,
)
from lightning.tests.conftest import prices as rates
from sandbox.stripe.testing import WEBHOOK_SECRET

__all__ = ["_prices", "alice", "platform", "rates", "relay", "wallets"]


@pytest.fixture
def worlds(wallets, rates, settings, monkeypatch) -> Iterator[Ground]:
    """What worlds stand on, with the settings that they need."""
    monkeypatch.setattr(stripe_calls, "pause_for", lambda seconds: None)
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = 100_000
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
    # A wallet that is silent costs so many real seconds.
    settings.NWC_TIMEOUT = 0.5
    with ground(wallets, rates) as found:
        settings.STRIPE_API_BASE = found.stripe.url
        yield found
