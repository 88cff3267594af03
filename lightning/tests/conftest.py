from lightning.tests.support.fixtures import (
    _prices,
    alice,
    own_wallet,
    prices,
    relay,
    wallets,
)

__all__ = ["_prices", "alice", "own_wallet", "prices", "relay", "wallets"]
