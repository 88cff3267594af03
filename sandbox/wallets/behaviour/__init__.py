"""Behaviours of wallets: actions on a request, and the replies to it.

Seconds refer to `time.time()`, so they pass when a test moves the clock.
"""

from sandbox.wallets.behaviour.lookups import (
    Amounts,
    ListBehaviour,
    LookupBehaviour,
    Times,
)
from sandbox.wallets.behaviour.protocol import ErrorField, Network, Protocol
from sandbox.wallets.behaviour.replies import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    Decoy,
    InvoiceBehaviour,
    PaymentBehaviour,
    ReplyBehaviour,
    answers_after,
    pays_after,
    pays_but_says,
    refuses,
    settles_late,
)

__all__ = [
    "CLAIMS_FALSELY",
    "PAYS",
    "PAYS_WITHOUT_ANSWER",
    "STAYS_SILENT",
    "Amounts",
    "CorruptReply",
    "Decoy",
    "ErrorField",
    "InvoiceBehaviour",
    "ListBehaviour",
    "LookupBehaviour",
    "Network",
    "PaymentBehaviour",
    "Protocol",
    "ReplyBehaviour",
    "Times",
    "answers_after",
    "pays_after",
    "pays_but_says",
    "refuses",
    "settles_late",
]
