"""The relay, wallets and prices of the Lightning tests, and Alby's SDK beside them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from interop.tests.support.alby import AlbyClient, AlbyWallet, alby_client, alby_wallet
from interop.tests.support.scripts import FOLDER
from lightning.tests.support.fixtures import (
    _prices,
    alice,
    own_wallet,
    prices,
    relay,
    wallets,
)

__all__ = ["_prices", "alice", "own_wallet", "prices", "relay", "wallets"]


@pytest.fixture(scope="session", autouse=True)
def _sdk() -> None:
    if not (FOLDER / "node_modules").is_dir():
        pytest.fail("Alby's SDK is not installed: run these tests by `make interop`.")


@pytest.fixture
def serve(wallets, relay) -> Iterator[Callable[..., AlbyWallet]]:
    """Start a wallet that Alby's SDK serves, for the length of the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            alby_wallet(wallets, relay, **options)
        )


@pytest.fixture
def connect() -> Iterator[Callable[[str], AlbyClient]]:
    """Start Alby's client of the wallet of a URL, for the length of the test."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(alby_client(url))
