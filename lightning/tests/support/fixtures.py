"""Fixtures on real sockets: a relay, Caravel's own wallet, a tenant's, and prices."""

from collections.abc import Iterator

import pytest

from caravel.nostr.relays.pool import close_pool
from lightning.clients import nwc_info
from lightning.services import rates
from sandbox.nostr import SandboxRelay, running_relay
from sandbox.prices.server import running_prices
from sandbox.wallets import Wallet, Wallets, running_wallets


@pytest.fixture
def relay() -> Iterator[SandboxRelay]:
    with running_relay() as relay:
        yield relay


@pytest.fixture
def wallets(relay, settings) -> Iterator[Wallets]:
    """Wallets over one relay; the first, `platform`, is Caravel's own."""
    nwc_info.clear_scheme_cache()
    with running_wallets(relay.url) as wallets:
        settings.ROBOT_WALLETS = [wallets.create("platform").url]
        settings.NWC_ALLOW_PRIVATE_RELAYS = True
        settings.NWC_TIMEOUT = 60
        # Far from its limit, except in tests of the pace.
        settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 100_000
        try:
            yield wallets
        finally:
            close_pool()


@pytest.fixture
def own_wallet(wallets: Wallets) -> Wallet:
    return wallets["platform"]


@pytest.fixture
def alice(wallets: Wallets) -> Wallet:
    return wallets.create("alice", balance_msat=10**9)


@pytest.fixture(scope="session")
def _prices():
    with running_prices() as feed:
        yield feed


@pytest.fixture
def prices(_prices, settings):
    settings.BTC_PRICE_URLS = _prices.urls
    rates.clear_cache()
    yield _prices
    _prices.reset()
