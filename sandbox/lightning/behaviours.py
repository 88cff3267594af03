"""How wallets can be told to behave, by the words that control and page know."""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.wallets import (
    CLAIMS_FALSELY,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    PaymentBehaviour,
    answers_after,
    pays_after,
    pays_but_says,
    refuses,
    settles_late,
)


@dataclass(frozen=True)
class Kind:
    """A behaviour made of some seconds and an error code, where it has such."""

    description: str
    make: Callable[[float, str], PaymentBehaviour]
    seconds: float = 0.0
    code: str = ""


KINDS = {
    "pays": Kind("pays, after some seconds if any", lambda s, _: pays_after(s)),
    "answers-late": Kind(
        "pays, and answers after some seconds", lambda s, _: answers_after(s), 30
    ),
    "never-answers": Kind("pays, and never answers", lambda *_: PAYS_WITHOUT_ANSWER),
    "silent": Kind("neither pays nor answers", lambda *_: STAYS_SILENT),
    "refuses": Kind(
        "refuses with a code",
        lambda _, code: refuses(code),
        code="INSUFFICIENT_BALANCE",
    ),
    "pays-but-says": Kind(
        "pays, but answers an error",
        lambda _, code: pays_but_says(code),
        code="INTERNAL",
    ),
    "settles-late": Kind(
        "answers an error, and pays after some seconds",
        lambda s, code: settles_late(s, code),
        seconds=30,
        code="PAYMENT_FAILED",
    ),
    "lies": Kind("claims to have paid", lambda *_: CLAIMS_FALSELY),
}


def describe(paying: PaymentBehaviour) -> str:
    """Return what a wallet does about a payment, in words."""
    if paying.pays_after is None:
        if paying.error:
            return f"refuses with {paying.error}"
        return "neither pays nor answers" if paying.after is None else "claims to pay"
    pays = _after("pays", paying.pays_after)
    if paying.error:
        return f"answers {paying.error}, but {pays}"
    if paying.after is None:
        return f"{pays}, never answers"
    return f"{pays}, answers {paying.after:g} s later" if paying.after else pays


def _after(command: str, seconds: float) -> str:
    return f"{command} after {seconds:g} s" if seconds else command
