"""Parsing of NIP-47 responses into checked types.

https://github.com/nostr-protocol/nips/blob/master/47.md
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from lightning.clients.nwc_values import (
    has_time,
    read_number_from_zero,
    read_time,
    read_word,
    read_words,
    sanitize,
    shorten,
)
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
#: A compressed public key, as of a node of the Lightning Network.
_NODE_PUBKEY = re.compile(r"0[23][0-9a-f]{64}")


@dataclass(frozen=True)
class Info:
    """The result of `get_info`. Few wallets give the connection's `expires_at`.

    `pubkey` is that of the wallet's node, "" if the wallet does not give it.
    """

    alias: str = ""
    pubkey: str = ""
    network: str = ""
    methods: frozenset[str] = frozenset()
    notifications: frozenset[str] = frozenset()
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

    `has_state`: the answer contains NIP-47's `state`, so no other field had to decide.
    `answer` describes the wallet's answer in one line for support, without secrets.
    """

    status: Status
    amount_msat: int | None = None
    settled_at: datetime | None = None
    preimage: str = ""
    answer: str = ""
    has_state: bool = False

    def __repr__(self) -> str:
        return f"<Lookup {self.status.value} {self.amount_msat} msat>"


@dataclass(frozen=True)
class Issued:
    """The result of `make_invoice`, not yet compared with the request.

    `payment_hash` is "" if the wallet gives none beside the bolt11, as coinos does.
    https://github.com/coinos/coinos-server/blob/00d9c43/lib/nwc.ts
    """

    bolt11: str
    payment_hash: str


def read_reply(method: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the result in a decrypted response. Raises WalletRefused or WalletFailed.

    Raises InvalidWalletReply if it is malformed or for another method.
    """
    result_type = content.get("result_type")
    error, result = content.get("error"), content.get("result")
    if isinstance(error, dict):
        code = _code(error)
        # A wallet that could not decrypt the request does not know its method, and
        # coinos names none when it limits the rate (lib/nwc.ts of coinos-server).
        if result_type in (method, "", None) or code == "RATE_LIMITED":
            _raise_error(code, error)
    if result_type != method:
        raise InvalidWalletReply("The wallet answered another request.")
    if error or not isinstance(result, dict):
        raise InvalidWalletReply("The wallet's answer has no result.")
    return result


def _code(error: dict[str, Any]) -> str:
    # applesauce calls it `type` (packages/wallet-connect/src/wallet-service.ts).
    return sanitize(error.get("code") or error.get("type"))[:40]


def _raise_error(code: str, error: dict[str, Any]) -> None:
    message = sanitize(error.get("message")) or "The wallet gave no reason."
    failure = WalletRefused if code in REFUSALS else WalletFailed
    raise failure(message, nwc_code=code)


def read_info(result: dict[str, Any]) -> Info:
    return Info(
        alias=sanitize(result.get("alias"))[:100],
        pubkey=_node_pubkey(result.get("pubkey")),
        network=sanitize(result.get("network"))[:20],
        methods=read_words(result.get("methods")),
        notifications=read_words(result.get("notifications")),
        expires_at=read_time(result.get("expires_at")),
    )


def _node_pubkey(value: object) -> str:
    # Some services give their Nostr key, or zeros.
    pubkey = read_word(value)
    return pubkey if _NODE_PUBKEY.fullmatch(pubkey) else ""


def read_budget(result: dict[str, Any]) -> Budget | None:
    """Return the budget, None without a total: the wallet has set none."""
    if not result.get("total_budget"):
        return None
    return Budget(
        used_msat=read_amount(result.get("used_budget")),
        total_msat=read_amount(result.get("total_budget")),
        renews_at=read_time(result.get("renews_at")),
        renewal_period=sanitize(result.get("renewal_period"))[:20],
    )


def read_issued(result: dict[str, Any]) -> Issued:
    bolt11, payment_hash = result.get("invoice"), read_word(result.get("payment_hash"))
    if not isinstance(bolt11, str) or not (payment_hash == "" or is_hash(payment_hash)):
        raise InvalidWalletReply("The wallet returned no invoice.")
    return Issued(bolt11=bolt11, payment_hash=payment_hash)


def read_lookup(payment_hash: str, result: dict[str, Any]) -> Lookup:
    """Read a wallet's answer about its own invoice.

    If the same wallet paid it, it may return the outgoing payment instead. Once that is
    settled the invoice is, too; before that it says nothing about the invoice.
    """
    if read_word(result.get("payment_hash")) != payment_hash:
        raise InvalidWalletReply("The wallet's answer is about another invoice.")
    preimage = read_word(result.get("preimage"))
    is_proven = is_preimage_of(payment_hash, preimage)
    status = _status(result, is_proven=is_proven)
    is_settled = status is Status.SETTLED
    return Lookup(
        status=status,
        amount_msat=read_number_from_zero(result.get("amount")) or None,
        settled_at=read_time(_settled_at(result)) if is_settled else None,
        preimage=preimage if is_settled and is_proven else "",
        answer=_describe(result, is_proven=is_proven),
        has_state=bool(read_word(result.get("state"))),
    )


def _status(result: dict[str, Any], *, is_proven: bool) -> Status:
    status = _incoming_status(result, is_proven=is_proven)
    is_incoming = read_word(result.get("type")) in ("incoming", "")
    return status if is_incoming or status is Status.SETTLED else Status.UNKNOWN


def _incoming_status(result: dict[str, Any], *, is_proven: bool) -> Status:
    """Return the status by `state`, without one by `settled_at` and the preimage.

    A preimage alone proves nothing, since the issuer knows it. Neither does a time: an
    LNbits without `state` set `settled_at` for invoices that failed.
    """
    settled_at = _settled_at(result)
    match read_word(result.get("state")):
        case "settled":
            return Status.SETTLED
        case "accepted":
            return Status.HELD
        # With a time, too: LNbits sets it for whatever is no longer pending.
        # https://github.com/lnbits/nwcprovider/blob/main/tasks.py
        case "expired" | "failed":
            return Status.UNSETTLED
        case "pending" | "" if not has_time(settled_at):
            return Status.UNSETTLED
        case "" if is_proven and read_time(settled_at):
            return Status.SETTLED
    return Status.UNKNOWN


def _settled_at(result: dict[str, Any]) -> object:
    settled_at = result.get("settled_at")
    return settled_at if has_time(settled_at) else result.get("settledAt", settled_at)


def _describe(result: dict[str, Any], *, is_proven: bool) -> str:
    """Return the answer in one line: "incoming, state settled, no settled_at, …"."""
    preimage = "right" if is_proven else "wrong" if result.get("preimage") else "no"
    amount = shorten(result.get("amount"))
    parts = [
        shorten(result.get("type")) or "no type",
        _label("state", result.get("state")),
        _label("settled_at", _settled_at(result)),
        f"amount {amount}" if amount else "",
        f"{preimage} preimage",
    ]
    return ", ".join(part for part in parts if part)


def _label(name: str, value: object) -> str:
    text = shorten(value)
    return f"{name} {text}" if text else f"no {name}"


def is_hash(value: object) -> bool:
    return isinstance(value, str) and bool(_HASH.fullmatch(value))


def is_preimage_of(payment_hash: str, preimage: object) -> bool:
    digits = read_word(preimage)
    if not is_hash(digits):
        return False
    return hashlib.sha256(bytes.fromhex(digits)).hexdigest() == payment_hash


def read_amount(value: object) -> int:
    amount = read_number_from_zero(value)
    if amount is None:
        raise InvalidWalletReply("The wallet returned no valid amount.")
    return amount
