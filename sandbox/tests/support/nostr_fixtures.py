"""Fixtures: a sandbox relay for one test, and wallets that use it."""

from collections.abc import Iterator

import pytest

from sandbox.nostr import SandboxRelay, running_relay
from sandbox.wallets import Wallet, Wallets, running_wallets


@pytest.fixture
def relay() -> Iterator[SandboxRelay]:
    with running_relay() as relay:
        yield relay


@pytest.fixture
def wallets(relay: SandboxRelay) -> Iterator[Wallets]:
    with running_wallets(relay.url) as wallets:
        yield wallets


@pytest.fixture
def platform(wallets: Wallets) -> Wallet:
    return wallets.create("platform")


@pytest.fixture
def alice(wallets: Wallets) -> Wallet:
    return wallets.create("alice", balance_msat=100_000)
