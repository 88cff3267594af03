"""How a wallet behaves: what it does about a request, and what it says of it.

Seconds are those of `time.time()`, so that travelled time counts.
"""

from dataclasses import dataclass
from enum import StrEnum

from caravel.nostr.encryption import Scheme


class CorruptReply(StrEnum):
    """How the true reply is spoilt before it leaves."""

    UNDECRYPTABLE = "encrypted to nobody"
    NOT_JSON = "no JSON"
    NOT_AN_OBJECT = "JSON, but a list"
    WRONG_TYPE = "the result_type of another method"
    NO_RESULT = "neither result nor error"
    NO_PREIMAGE = "no preimage"
    WRONG_PREIMAGE = "a preimage of another hash"


class Decoy(StrEnum):
    """A reply that precedes the true one, and says the contrary."""

    WRONG_KEY = "signed by another key"
    WRONG_REQUEST = "about another request"


@dataclass(frozen=True, kw_only=True)
class ReplyBehaviour:
    """How a method is answered: with what was done, unless `error` says otherwise.

    `after` counts from what was done, with an `error` from the request; None: never.
    """

    after: float | None = 0.0
    error: str | None = None
    corruption: CorruptReply | None = None
    copies: int = 1
    decoys: tuple[Decoy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PaymentBehaviour(ReplyBehaviour):
    """How `pay_invoice` is carried out; `pays_after` None: it is not paid.

    Not paid and no `error` either: the wallet lies, with a preimage it made up.
    """

    pays_after: float | None = 0.0


@dataclass(frozen=True, kw_only=True)
class LookupBehaviour(ReplyBehaviour):
    """How `lookup_invoice` is answered."""

    with_state: bool = True
    wrong_hash: bool = False


@dataclass(frozen=True, kw_only=True)
class InvoiceBehaviour(ReplyBehaviour):
    """How `make_invoice` is carried out.

    Where set, the bolt11 has this amount and expiry (seconds) in place of those that
    were asked for and are told beside it; `wrong_hash` tells another payment hash.
    """

    amount_msat: int | None = None
    expiry: int | None = None
    wrong_hash: bool = False


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a wallet service takes NIP-47."""

    #: In order of preference, as its info event has them.
    encryption: tuple[Scheme, ...] = (Scheme.NIP44, Scheme.NIP04)
    #: Replies have a `p` tag with the client's key; those of Alby's js-sdk have none.
    names_client: bool = True
    #: A request past its NIP-40 `expiration` is not run; Alby Hub runs it.
    heeds_expiration: bool = True
    #: One request id is run once, however often it arrives.
    runs_once: bool = True
    #: Unknown keys are answered UNAUTHORIZED, not with silence as by Alby Hub.
    answers_unknown_clients: bool = True
    #: Clients are told of payments.
    notifies: bool = True
    #: After each loss of a relay it asks for the requests that were stored meanwhile.
    fetches_stored: bool = False


PAYS = PaymentBehaviour()
PAYS_WITHOUT_ANSWER = PaymentBehaviour(after=None)
STAYS_SILENT = PaymentBehaviour(pays_after=None, after=None)
CLAIMS_FALSELY = PaymentBehaviour(pays_after=None)


def pays_after(seconds: float) -> PaymentBehaviour:
    """Pay later, and answer then."""
    return PaymentBehaviour(pays_after=seconds)


def answers_after(seconds: float) -> PaymentBehaviour:
    """Pay at once, and answer later."""
    return PaymentBehaviour(after=seconds)


def refuses(code: str) -> PaymentBehaviour:
    """Answer an error, and pay nothing."""
    return PaymentBehaviour(pays_after=None, error=code)


def pays_but_says(code: str) -> PaymentBehaviour:
    """Pay at once, and answer an error."""
    return PaymentBehaviour(error=code)


def settles_late(seconds: float, code: str = "PAYMENT_FAILED") -> PaymentBehaviour:
    """Answer an error, and pay later all the same."""
    return PaymentBehaviour(pays_after=seconds, error=code)
