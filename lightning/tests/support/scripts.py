"""Scripts of the crash table: how the wallets of payer and receiver behave.

The sources are beside the behaviours, in `sandbox.wallets.behaviour`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.wallets import Terms, Wallet
from sandbox.wallets.behaviour import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    Amounts,
    CorruptReply,
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
class Receiver:
    """The behaviour of one of our own wallets, once it has issued its invoices."""

    lookups: LookupBehaviour = field(default_factory=LookupBehaviour)
    protocol: Protocol = field(default_factory=Protocol)
    denied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """The behaviour of a wallet, whether sats move, and whether it answers at once.

    `refuses`: its reply, if received, says that nothing was spent. `comes_back`: the
    wallet is offline, and hours later runs the requests that its relay kept.
    `needs_proof`: our own wallet denies the payment, so that only the payer's wallet
    can prove it. `needs_support`: no wallet's answer ends the attempt.
    """

    behaviour: PaymentBehaviour = PAYS
    pays: bool = True
    answers: bool = True
    refuses: bool = False
    offline: bool = False
    comes_back: Callable[[Wallet], object] | None = None
    terms: Terms = field(default_factory=Terms)
    protocol: Protocol = field(default_factory=Protocol)
    receiver: Receiver = field(default_factory=Receiver)
    needs_proof: bool = False
    needs_support: bool = False


def run_all_requests(wallet: Wallet) -> None:
    wallet.go_online(heeds_expiration=False)


def run_valid_requests(wallet: Wallet) -> None:
    wallet.go_online(heeds_expiration=True)


def shown_as(**lookups: Any) -> Receiver:
    return Receiver(LookupBehaviour(**lookups))


NO_STATE: dict[str, Any] = {"with_state": False}
UNKNOWN_NODE = Terms(denied=("get_info",))
FAILS = refuses("PAYMENT_FAILED")
SCRIPTS = {
    "pays": Script(),
    "pays after a second": Script(pays_after(1), answers=False),
    "pays and never answers": Script(PAYS_WITHOUT_ANSWER, answers=False),
    "answers after we gave up": Script(answers_after(4), answers=False),
    "INSUFFICIENT_BALANCE": Script(
        refuses("INSUFFICIENT_BALANCE"), pays=False, refuses=True
    ),
    "QUOTA_EXCEEDED": Script(refuses("QUOTA_EXCEEDED"), pays=False, refuses=True),
    "budget used up": Script(terms=Terms(budget_msat=1_000), pays=False, refuses=True),
    "INTERNAL though paid": Script(pays_but_says("INTERNAL")),
    "INTERNAL": Script(refuses("INTERNAL"), pays=False),
    "PAYMENT_FAILED then settles": Script(settles_late(2)),
    "an unknown code": Script(refuses("BRAND_NEW"), pays=False),
    "offline": Script(pays=False, answers=False, offline=True),
    "comes back and runs everything": Script(
        answers=False, offline=True, comes_back=run_all_requests
    ),
    "comes back and heeds expirations": Script(
        pays=False, answers=False, offline=True, comes_back=run_valid_requests
    ),
    "ignores requests": Script(STAYS_SILENT, pays=False, answers=False),
    "two replies": Script(PaymentBehaviour(copies=2)),
    "garbage, paid": Script(PaymentBehaviour(corruption=CorruptReply.UNDECRYPTABLE)),
    "garbage, unpaid": Script(
        PaymentBehaviour(pays_after=None, corruption=CorruptReply.NOT_JSON), pays=False
    ),
    "an invented preimage": Script(CLAIMS_FALSELY, pays=False),
    # Payers that differ from NIP-47.
    "INSUFFICIENT_BALANCE then settles": Script(
        settles_late(2, "INSUFFICIENT_BALANCE")
    ),
    "RATE_LIMITED then settles": Script(settles_late(2, "RATE_LIMITED")),
    "rate limited": Script(
        protocol=Protocol(requests_per_minute=0), pays=False, refuses=True
    ),
    "an error under type": Script(
        refuses("QUOTA_EXCEEDED"),
        pays=False,
        refuses=True,
        protocol=Protocol(error_field=ErrorField.TYPE),
    ),
    "no info event": Script(protocol=Protocol(announces=False)),
    "no get_info": Script(terms=UNKNOWN_NODE),
    "clock two minutes slow": Script(protocol=Protocol(clock_skew=-115)),
    "clock two minutes fast": Script(protocol=Protocol(clock_skew=115)),
    # Receivers that do.
    "shown without state": Script(receiver=shown_as(**NO_STATE)),
    "not shown, without state": Script(
        FAILS, pays=False, receiver=shown_as(**NO_STATE, shows_preimage=True)
    ),
    "shown in floats": Script(receiver=shown_as(**NO_STATE, times=Times.FLOATS)),
    "shown in milliseconds": Script(
        receiver=shown_as(**NO_STATE, times=Times.MILLISECONDS)
    ),
    "shown in texts": Script(
        receiver=shown_as(**NO_STATE, times=Times.TEXT, amounts=Amounts.TEXT)
    ),
    "shown with an absurd amount": Script(receiver=shown_as(amounts=Amounts.ABSURD)),
    "receiver's clock slow": Script(
        receiver=Receiver(protocol=Protocol(clock_skew=-115))
    ),
    "receiver's clock fast": Script(
        receiver=Receiver(protocol=Protocol(clock_skew=115))
    ),
    "receiver rate limited": Script(
        receiver=Receiver(protocol=Protocol(requests_per_minute=1))
    ),
    "never shown": Script(receiver=shown_as(never_settled=True), needs_proof=True),
    "never shown, from an unknown node": Script(
        terms=UNKNOWN_NODE,
        receiver=shown_as(never_settled=True),
        needs_proof=True,
        needs_support=True,
    ),
    "expired with a time": Script(
        FAILS,
        pays=False,
        receiver=shown_as(**NO_STATE, settles_expired=True),
        needs_support=True,
    ),
    "a failed payment hides the invoice": Script(
        FAILS, pays=False, receiver=shown_as(newest_record=True)
    ),
    "a failed payment hides the invoice, and there is no list": Script(
        FAILS,
        pays=False,
        receiver=Receiver(
            LookupBehaviour(newest_record=True), denied=("list_transactions",)
        ),
        needs_support=True,
    ),
}
