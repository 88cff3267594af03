"""A stand-in for the wallets of tenants and the platform: NIP-47 on a real relay.

    with running_wallets(relay_url) as wallets:
        alice = wallets.create("alice", balance_msat=10**9)
        alice.behaviour = refuses("QUOTA_EXCEEDED")

Sats move only within one ledger; BOLT 11, events and encryption are real. The
behaviours are those of `sandbox.wallets.behaviour`.
"""

from sandbox.wallets.connections import Renewal, Terms
from sandbox.wallets.ledger import NotPaid
from sandbox.wallets.testing import Wallets, running_wallets
from sandbox.wallets.wallet import Wallet

__all__ = ["NotPaid", "Renewal", "Terms", "Wallet", "Wallets", "running_wallets"]
