"""Parsing of NIP-47 responses into checked types.

https://github.com/nostr-protocol/nips/blob/master/47.md
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from caravel.core.redaction import redact
from lightning.exceptions import InvalidWalletReply, WalletFailed, WalletRefused

#: NIP-47 error codes that prove that nothing was spent. Others prove nothing: wallets
#: answer PAYMENT_FAILED to a timeout, and INTERNAL when the invoice is already paid.
REFUSALS = frozenset(
    {
        "INSUFFICIENT_BALANCE",
        "QUOTA_EXCEEDED",
        "RESTRICTED",
        "UNAUTHORIZED",
        "NOT_IMPLEMENTED",
        "RATE_LIMITED",
        "UNSUPPORTED_ENCRYPTION",
        "BAD_REQUEST",
        "EXPIRED",
    }
)
_HASH = re.compile(r"[0-9a-f]{64}")
#: Possibly a preimage or a key.
_LONG_HEX = re.compile(r"[0-9a-fA-F]{64,}")


@dataclass(frozen=True)
class Info:
    """The result of `get_info`. Few wallets give the connection's `expires_at`."""

    alias: str
    pubkey: str
    network: str
    methods: frozenset[str]
    notifications: frozenset[str]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Budget:
    """A connection's spending limit per period, and its use of it, in millisatoshi."""

    used_msat: int
    total_msat: int
    renews_at: datetime | None
    renewal_period: str

    @property
    def left_msat(self) -> int:
        return max(0, self.total_msat - self.used_msat)


class Status(Enum):
    """The status of a wallet's own invoice."""

    SETTLED = "settled"
    UNSETTLED = "unsettled"
    #: A payment has arrived that the wallet has neither accepted nor returned yet.
    HELD = "held"
    #: The answer is not readable, or contradicts itself: it is neither yes nor no.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Lookup:
    """The result of `lookup_invoice`; `preimage` is "" or proves the payment.

    `answer` describes the wallet's answer in one line for support, without secrets.
    """

    status: Status
    amount_msat: int | None = None
    settled_at: datetime | None = None
    preimage: str = ""
    answer: str = ""

    def __repr__(self) -> str:
        return f"<Lookup {self.status.value} {self.amount_msat} msat>"


@dataclass(frozen=True)
class Issued:
    """The result of `make_invoice`, not yet compared with the request."""

    bolt11: str
    payment_hash: str


def read_reply(method: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the result in a decrypted response. Raises WalletRefused or WalletFailed.

    Raises InvalidWalletReply if it is malformed or for another method.
    """
    result_type = content.get("result_type")
    error, result = content.get("error"), content.get("result")
    # A wallet that could not decrypt the request does not know its method.
    if isinstance(error, dict) and result_type in (method, "", None):
        _raise_error(error)
    if result_type != method:
        raise InvalidWalletReply("The wallet answered another request.")
    if error or not isinstance(result, dict):
        raise InvalidWalletReply("The wallet's answer has no result.")
    return result


def _raise_error(error: dict[str, Any]) -> None:
    code = _sanitize(error.get("code"))[:40]
    message = _sanitize(error.get("message")) or "The wallet gave no reason."
    failure = WalletRefused if code in REFUSALS else WalletFailed
    raise failure(message, nwc_code=code)


def read_info(result: dict[str, Any]) -> Info:
    return Info(
        alias=_sanitize(result.get("alias"))[:100],
        pubkey=_sanitize(result.get("pubkey"))[:66],
        network=_sanitize(result.get("network"))[:20],
        methods=_words(result.get("methods")),
        notifications=_words(result.get("notifications")),
        expires_at=_time(result.get("expires_at")),
    )


def read_budget(result: dict[str, Any]) -> Budget | None:
    """Return the budget, None without a total: the wallet has set none."""
    if not result.get("total_budget"):
        return None
    return Budget(
        used_msat=read_amount(result.get("used_budget")),
        total_msat=read_amount(result.get("total_budget")),
        renews_at=_time(result.get("renews_at")),
        renewal_period=_sanitize(result.get("renewal_period"))[:20],
    )


def read_issued(result: dict[str, Any]) -> Issued:
    bolt11, payment_hash = result.get("invoice"), result.get("payment_hash")
    if not isinstance(bolt11, str) or not is_hash(payment_hash):
        raise InvalidWalletReply("The wallet returned no invoice.")
    return Issued(bolt11=bolt11, payment_hash=str(payment_hash))


def read_lookup(payment_hash: str, result: dict[str, Any]) -> Lookup:
    """Read a wallet's answer about its own invoice.

    If the same wallet paid it, it may return the outgoing payment instead. Once that is
    settled the invoice is, too; before that it says nothing about the invoice.
    """
    if result.get("payment_hash") != payment_hash:
        raise InvalidWalletReply("The wallet's answer is about another invoice.")
    status = _status(result)
    is_incoming = result.get("type", "incoming") == "incoming"
    if not is_incoming and status is not Status.SETTLED:
        raise InvalidWalletReply("The wallet's answer is about an outgoing payment.")
    preimage = result.get("preimage")
    is_proven = status is Status.SETTLED and is_preimage_of(payment_hash, preimage)
    return Lookup(
        status=status,
        amount_msat=read_amount(result.get("amount")) if result.get("amount") else None,
        settled_at=_time(result.get("settled_at")),
        preimage=str(preimage) if is_proven else "",
    )


def _status(result: dict[str, Any]) -> Status:
    """Return the status; in wallets without `state` only `settled_at` shows it."""
    state, settled_at = result.get("state"), _time(result.get("settled_at"))
    match state.lower() if isinstance(state, str) else state:
        case "settled":
            return Status.SETTLED
        case "accepted":
            return Status.HELD
        case "pending" | "expired" | "failed" if settled_at is None:
            return Status.UNSETTLED
        case None | "":
            return Status.SETTLED if settled_at else Status.UNSETTLED
    raise InvalidWalletReply("The wallet contradicts itself about an invoice.")


def is_hash(value: object) -> bool:
    return isinstance(value, str) and bool(_HASH.fullmatch(value))


def is_preimage_of(payment_hash: str, preimage: object) -> bool:
    if not isinstance(preimage, str) or not _HASH.fullmatch(preimage):
        return False
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == payment_hash


def _sanitize(value: object) -> str:
    """Return a wallet's text as one short line, with secrets removed."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    printable = "".join(c if c.isprintable() else "?" for c in text[:1_000])
    return _LONG_HEX.sub("…", redact(printable))[:240]


def _words(value: object) -> frozenset[str]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list):
        return frozenset()
    return frozenset(word for word in words if isinstance(word, str))


def read_amount(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise InvalidWalletReply("The wallet returned no valid amount.")
    return value


def _time(value: object) -> datetime | None:
    """Return a time from Unix seconds, None for anything else, or zero."""
    if type(value) is not int or not 0 < value < 2**36:
        return None
    return datetime.fromtimestamp(value, UTC)
