"""What pays: our wallet, tenants' wallets and prices of bitcoin, on real sockets."""

from lightning.tests.conftest import (
    _prices,
    alice,
    platform,
    relay,
    wallets,
)
from lightning.tests.conftest import prices as rates

__all__ = ["_prices", "alice", "platform", "rates", "relay", "wallets"]
