"""Fixtures: relay, wallets and prices of the Lightning tests, and Alby's SDK."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from interop.tests.support.alby import AlbyClient, AlbyWallet, alby_client, alby_wallet
from interop.tests.support.scripts import INTEROP_DIR
from lightning.tests.conftest import _prices, alice, platform, prices, relay, wallets

__all__ = ["_prices", "alice", "platform", "prices", "relay", "wallets"]


@pytest.fixture(scope="session", autouse=True)
def _sdk() -> None:
    if not (INTEROP_DIR / "node_modules").is_dir():
        pytest.fail("Alby's SDK is not installed: run these tests by `make interop`.")


@pytest.fixture
def serve(wallets, relay) -> Iterator[Callable[..., AlbyWallet]]:
    """Start a wallet that Alby's SDK serves, until the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            alby_wallet(wallets, relay, **options)
        )


@pytest.fixture
def connect() -> Iterator[Callable[[str], AlbyClient]]:
    """Start Alby's client for a wallet URL, until the test ends."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(alby_client(url))
