"""Wallet behaviours by the names that the control API and the page use."""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.wallets.behaviour import (
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
    """A behaviour, with the defaults of its seconds and error code."""

    description: str
    make: Callable[[float, str], PaymentBehaviour]
    seconds: float = 0.0
    code: str = ""


KINDS = {
    "pays": Kind("pays, after a delay if seconds are set", lambda s, _: pays_after(s)),
    "answers-late": Kind(
        "pays at once, answers after a delay", lambda s, _: answers_after(s), 30
    ),
    "never-answers": Kind("pays, never answers", lambda *_: PAYS_WITHOUT_ANSWER),
    "silent": Kind("neither pays nor answers", lambda *_: STAYS_SILENT),
    "refuses": Kind(
        "refuses with an error code",
        lambda _, code: refuses(code),
        code="INSUFFICIENT_BALANCE",
    ),
    "pays-but-says": Kind(
        "pays, but answers with an error",
        lambda _, code: pays_but_says(code),
        code="INTERNAL",
    ),
    "settles-late": Kind(
        "answers with an error, pays after a delay",
        lambda s, code: settles_late(s, code),
        seconds=30,
        code="PAYMENT_FAILED",
    ),
    "lies": Kind("claims to have paid, does not pay", lambda *_: CLAIMS_FALSELY),
}


def describe(behaviour: PaymentBehaviour) -> str:
    """Describe how a wallet handles a payment."""
    if behaviour.pays_after is None:
        if behaviour.error:
            return f"refuses with {behaviour.error}"
        return (
            "neither pays nor answers" if behaviour.after is None else "claims to pay"
        )
    delay = behaviour.pays_after
    pays = f"pays after {delay:g} s" if delay else "pays"
    if behaviour.error:
        return f"answers {behaviour.error}, but {pays}"
    if behaviour.after is None:
        return f"{pays}, never answers"
    return f"{pays}, answers {behaviour.after:g} s later" if behaviour.after else pays
