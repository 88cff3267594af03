"""Wallet behaviours by the names that the control API and the page use."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.common.fields import MAX_SECONDS, Fields
from sandbox.wallets import Wallet
from sandbox.wallets.behaviour import (
    CLAIMS_FALSELY,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    Amounts,
    ErrorField,
    LookupBehaviour,
    PaymentBehaviour,
    Protocol,
    Times,
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


#: Answers to `lookup_invoice`; the sources are in `sandbox.wallets.behaviour.lookups`.
LOOKUPS: dict[str, LookupBehaviour] = {
    "by-the-book": LookupBehaviour(),
    "without-state": LookupBehaviour(with_state=False),
    "settles-expired": LookupBehaviour(with_state=False, settles_expired=True),
    "shows-preimages": LookupBehaviour(with_state=False, shows_preimage=True),
    "float-times": LookupBehaviour(with_state=False, times=Times.FLOATS),
    "millisecond-times": LookupBehaviour(with_state=False, times=Times.MILLISECONDS),
    "text-times": LookupBehaviour(with_state=False, times=Times.TEXT),
    "text-amounts": LookupBehaviour(amounts=Amounts.TEXT),
    "absurd-amounts": LookupBehaviour(amounts=Amounts.ABSURD),
    "never-settled": LookupBehaviour(never_settled=True),
    "newest-record": LookupBehaviour(newest_record=True),
    "fails": LookupBehaviour(error="INTERNAL"),
    "silent": LookupBehaviour(after=None),
}
#: Methods that a connection can be denied, by the field that allows them.
DENIABLE = {"may_get_info": "get_info", "may_list": "list_transactions"}


def set_protocol(wallet: Wallet, fields: Fields) -> None:
    """Set a wallet's protocol and rights; those not given are as NIP-47 says."""
    protocol = replace(
        wallet.protocol,
        clock_skew=fields.seconds("clock_skew", 0, minimum=-MAX_SECONDS),
        requests_per_minute=fields.optional(fields.integer, "requests_per_minute"),
        announces=fields.flag("announces", True),
        error_field=ErrorField(fields.choice("error_field", ErrorField, "code")),
    )
    allowed = {field: fields.flag(field, True) for field in DENIABLE}
    wallet.connection.deny(
        [DENIABLE[field] for field in DENIABLE if not allowed[field]]
    )
    wallet.protocol = protocol


def describe_differences(protocol: Protocol, lookup: LookupBehaviour) -> list[str]:
    """Describe how a wallet differs from NIP-47, apart from its payments."""
    name = next((word for word, value in LOOKUPS.items() if value == lookup), "other")
    limit = protocol.requests_per_minute
    differences = {
        f"look-ups: {name}": name != "by-the-book",
        f"clock {protocol.clock_skew:+g} s": protocol.clock_skew,
        f"{limit} requests a minute": limit is not None,
        "no info event": not protocol.announces,
        "errors under type": protocol.error_field is ErrorField.TYPE,
    }
    return [text for text, differs in differences.items() if differs]


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
