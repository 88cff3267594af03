"""A stand-in for the wallets of tenants and the platform: NIP-47 on a real relay.

    with running_wallets(relay_url) as wallets:
        alice = wallets.create("alice", balance_msat=10**9)
        alice.behaviour = refuses("QUOTA_EXCEEDED")

Sats move only within one ledger; BOLT 11, events and encryption are real.
"""

from sandbox.wallets.behaviour import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    Decoy,
    InvoiceBehaviour,
    LookupBehaviour,
    PaymentBehaviour,
    Protocol,
    ReplyBehaviour,
    answers_after,
    pays_after,
    pays_but_says,
    refuses,
    settles_late,
)
from sandbox.wallets.connections import Connection, Renewal, Terms
from sandbox.wallets.keys import Keys, keys_of
from sandbox.wallets.ledger import Invoice, Ledger, NotPaid
from sandbox.wallets.testing import Wallets, running_wallets
from sandbox.wallets.wallet import Wallet

__all__ = [
    "CLAIMS_FALSELY",
    "PAYS",
    "PAYS_WITHOUT_ANSWER",
    "STAYS_SILENT",
    "Connection",
    "CorruptReply",
    "Decoy",
    "Invoice",
    "InvoiceBehaviour",
    "Keys",
    "Ledger",
    "LookupBehaviour",
    "NotPaid",
    "PaymentBehaviour",
    "Protocol",
    "Renewal",
    "ReplyBehaviour",
    "Terms",
    "Wallet",
    "Wallets",
    "answers_after",
    "keys_of",
    "pays_after",
    "pays_but_says",
    "refuses",
    "running_wallets",
    "settles_late",
]
