"""What wallets answer (NIP-47), checked and turned into our own types."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from caravel.core.redaction import redact
from lightning.exceptions import InvalidWalletReply, WalletFailed, WalletRefused

#: Codes of NIP-47 that prove that nothing was spent. Any other proves nothing:
#: PAYMENT_FAILED may be a time-out, INTERNAL is said of what is already paid.
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
#: A preimage, perhaps, or a key.
_LONG_HEX = re.compile(r"[0-9a-fA-F]{64,}")


@dataclass(frozen=True)
class Info:
    """`expires_at` is when the connection ends, for the wallets that tell."""

    alias: str
    pubkey: str
    network: str
    methods: frozenset[str]
    notifications: frozenset[str]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Budget:
    """What the connection may spend in a period, and has spent, in millisatoshi."""

    used_msat: int
    total_msat: int
    renews_at: datetime | None
    renewal_period: str

    @property
    def left_msat(self) -> int:
        return max(0, self.total_msat - self.used_msat)


class Status(Enum):
    """What a wallet says of an invoice of its own."""

    SETTLED = "settled"
    UNSETTLED = "unsettled"
    #: A payment has come in and is neither kept nor sent back yet.
    HELD = "held"


@dataclass(frozen=True)
class Lookup:
    """An invoice as its wallet knows it; `preimage` is "" or proves the payment."""

    status: Status
    amount_msat: int | None = None
    settled_at: datetime | None = None
    preimage: str = ""

    def __repr__(self) -> str:
        return f"<Lookup {self.status.value} {self.amount_msat} msat>"


@dataclass(frozen=True)
class Issued:
    """An invoice that a wallet made, as it describes it."""

    bolt11: str
    payment_hash: str


def read_reply(method: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a decrypted reply, or raise the error in it.

    A wallet that could not read the request does not know what it answers.
    """
    answered = content.get("result_type")
    error, result = content.get("error"), content.get("result")
    if isinstance(error, dict) and answered in (method, "", None):
        _raise_error(error)
    if answered != method:
        raise InvalidWalletReply("The wallet answers another question.")
    if error or not isinstance(result, dict):
        raise InvalidWalletReply("The wallet's answer has no result.")
    return result


def _raise_error(error: dict[str, Any]) -> None:
    code = _plain(error.get("code"))[:40]
    message = _plain(error.get("message")) or "The wallet gives no reason."
    failure = WalletRefused if code in REFUSALS else WalletFailed
    raise failure(message, nwc_code=code)


def read_info(found: dict[str, Any]) -> Info:
    return Info(
        alias=_plain(found.get("alias"))[:100],
        pubkey=_plain(found.get("pubkey"))[:66],
        network=_plain(found.get("network"))[:20],
        methods=_words(found.get("methods")),
        notifications=_words(found.get("notifications")),
        expires_at=_time(found.get("expires_at")),
    )


def read_budget(found: dict[str, Any]) -> Budget | None:
    """Return the budget; a wallet that sets none answers without a total."""
    if not found.get("total_budget"):
        return None
    return Budget(
        used_msat=read_amount(found.get("used_budget")),
        total_msat=read_amount(found.get("total_budget")),
        renews_at=_time(found.get("renews_at")),
        renewal_period=_plain(found.get("renewal_period"))[:20],
    )


def read_issued(found: dict[str, Any]) -> Issued:
    bolt11, payment_hash = found.get("invoice"), found.get("payment_hash")
    if not isinstance(bolt11, str) or not is_hash(payment_hash):
        raise InvalidWalletReply("The wallet made no invoice.")
    return Issued(bolt11=bolt11, payment_hash=str(payment_hash))


def read_lookup(payment_hash: str, found: dict[str, Any]) -> Lookup:
    """Read what a wallet says of an invoice of its own.

    One that paid it too may tell of its payment: once that is settled, so is the other
    half, and before that it says nothing of it.
    """
    if found.get("payment_hash") != payment_hash:
        raise InvalidWalletReply("The wallet tells of another invoice.")
    status = _status(found)
    is_incoming = found.get("type", "incoming") == "incoming"
    if not is_incoming and status is not Status.SETTLED:
        raise InvalidWalletReply("The wallet tells of a payment that it made.")
    preimage = found.get("preimage")
    is_proven = status is Status.SETTLED and is_preimage_of(payment_hash, preimage)
    return Lookup(
        status=status,
        amount_msat=read_amount(found.get("amount")) if found.get("amount") else None,
        settled_at=_time(found.get("settled_at")),
        preimage=str(preimage) if is_proven else "",
    )


def _status(found: dict[str, Any]) -> Status:
    """Return the state; wallets that know no `state` tell by `settled_at`."""
    state, settled_at = found.get("state"), _time(found.get("settled_at"))
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


def _plain(value: object) -> str:
    """Return foreign text as one short line without anything secret."""
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
        raise InvalidWalletReply("The wallet gives no amount.")
    return value


def _time(value: object) -> datetime | None:
    """Return seconds of the epoch as a time, None for nothing (or zero) given."""
    if type(value) is not int or not 0 < value < 2**36:
        return None
    return datetime.fromtimestamp(value, UTC)
