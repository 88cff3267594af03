"""Replies to a request, true or not, and what `pay_invoice` and `make_invoice` do."""

from dataclasses import dataclass
from enum import StrEnum


class CorruptReply(StrEnum):
    """A defect of the true reply."""

    UNDECRYPTABLE = "encrypted to another key"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "JSON, but a list"
    WRONG_TYPE = "the result_type of another method"
    NO_RESULT = "neither result nor error"
    NO_PREIMAGE = "no preimage"
    WRONG_PREIMAGE = "a preimage of another hash"


class Decoy(StrEnum):
    """A false reply with the opposite outcome, sent before the true one."""

    WRONG_KEY = "signed by another key"
    WRONG_REQUEST = "about another request"


@dataclass(frozen=True, kw_only=True)
class ReplyBehaviour:
    """Replies to a method: its outcome, or `error` with a `message`.

    `after` is in seconds since the method ran, with an `error` since the request; None:
    never.
    """

    after: float | None = 0.0
    error: str | None = None
    message: str = ""
    corruption: CorruptReply | None = None
    copies: int = 1
    decoys: tuple[Decoy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PaymentBehaviour(ReplyBehaviour):
    """Behaviour of `pay_invoice`; `pays_after` None: it is not paid.

    With neither a payment nor an `error` the wallet sends a fake preimage.
    """

    pays_after: float | None = 0.0


@dataclass(frozen=True, kw_only=True)
class InvoiceBehaviour(ReplyBehaviour):
    """Behaviour of `make_invoice`.

    `amount_msat` and `expiry` (seconds) replace those of the bolt11, while the result
    repeats the requested ones. `wrong_hash` puts another payment hash in the result.
    """

    amount_msat: int | None = None
    expiry: int | None = None
    wrong_hash: bool = False


PAYS = PaymentBehaviour()
PAYS_WITHOUT_ANSWER = PaymentBehaviour(after=None)
STAYS_SILENT = PaymentBehaviour(pays_after=None, after=None)
CLAIMS_FALSELY = PaymentBehaviour(pays_after=None)


def pays_after(seconds: float) -> PaymentBehaviour:
    """Pay after a delay, then answer."""
    return PaymentBehaviour(pays_after=seconds)


def answers_after(seconds: float) -> PaymentBehaviour:
    """Pay at once, answer after a delay."""
    return PaymentBehaviour(after=seconds)


def refuses(code: str, message: str = "") -> PaymentBehaviour:
    """Answer with an error, pay nothing."""
    return PaymentBehaviour(pays_after=None, error=code, message=message)


def pays_but_says(code: str) -> PaymentBehaviour:
    """Pay at once, answer with an error."""
    return PaymentBehaviour(error=code)


def settles_late(seconds: float, code: str = "PAYMENT_FAILED") -> PaymentBehaviour:
    """Answer with an error, then pay after a delay."""
    return PaymentBehaviour(pays_after=seconds, error=code)
