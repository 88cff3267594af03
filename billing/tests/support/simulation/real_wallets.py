"""Wallets that differ from NIP-47, support that decides, and who may pay twice."""

from collections.abc import Iterator
from datetime import timedelta

from django.test import override_settings

from billing.models import CardAttempt
from billing.tests.support.simulation.actions import Actions
from billing.tests.support.simulation.balances import tenant_invoices
from billing.tests.support.simulation.system import System
from lightning.exceptions import NotResolvable
from lightning.models import LightningInvoice, NwcPayment
from lightning.tests.support.decisions import decide_by_ledger
from sandbox.stripe.store.records import Record
from sandbox.wallets.behaviour import (
    PAYS,
    Amounts,
    LookupBehaviour,
    Protocol,
    Times,
    refuses,
)

#: Answers of our own wallet that are never a wrong yes or no.
OWN_WALLETS = {
    "by the book": LookupBehaviour(),
    "without state": LookupBehaviour(with_state=False),
    "unpaid with its preimage": LookupBehaviour(with_state=False, shows_preimage=True),
    "expired with a time": LookupBehaviour(with_state=False, settles_expired=True),
    "float times": LookupBehaviour(with_state=False, times=Times.FLOATS),
    "text times": LookupBehaviour(times=Times.TEXT, amounts=Amounts.TEXT),
    "milliseconds": LookupBehaviour(with_state=False, times=Times.MILLISECONDS),
    "absurd amounts": LookupBehaviour(amounts=Amounts.ABSURD),
    "failed payments first": LookupBehaviour(newest_record=True),
    "other invoices": LookupBehaviour(wrong_hash=True),
    "errors": LookupBehaviour(error="INTERNAL"),
    "silence": LookupBehaviour(after=None),
}
_CARD, _MAX_PAYERS = "pm_card_visa", 5
#: Within the tolerance.
CLOCK_SKEWS = (0, 0, -115, 115)


def change_own_wallet(system: System, answers: str, variant: int) -> None:
    """Let our own wallet answer otherwise; an odd variant has no list."""
    own = system.wallets["platform"]
    own.lookup_behaviour = OWN_WALLETS[answers]
    own.protocol = Protocol(clock_skew=CLOCK_SKEWS[variant])
    own.connection.deny(["list_transactions"] if variant % 2 else [])


def restore_own_wallet(system: System) -> None:
    change_own_wallet(system, "by the book", 0)


def meet_contradiction(actions: Actions, variant: int, delay: timedelta) -> None:
    """Add a tenant whose wallet and ours do not agree on its first payment.

    It has a card, too. Our wallet never shows the payment (0, and 1: from an unknown
    node), or shows something else than an unpaid invoice that has failed (2, 3).
    """
    if len(actions.payers) >= _MAX_PAYERS:
        return
    if variant < 2:
        _pay_unseen(actions, delay, has_node=variant == 0)
        return
    answers = ("failed payments first", "expired with a time")[variant - 2]
    change_own_wallet(actions.system, answers, 0)
    actions.system.wallets["platform"].connection.deny(["list_transactions"])
    actions.add_tenant(wallet=refuses("PAYMENT_FAILED"), card=_CARD)
    actions.system.run()
    actions.system.advance(delay)


def _pay_unseen(actions: Actions, delay: timedelta, *, has_node: bool) -> None:
    """Have a new tenant's wallet pay while our own never shows it.

    Without a proof nobody could know of such a payment, so all wallets give one.
    """
    system = actions.system
    own = system.wallets["platform"]
    is_watching = LightningInvoice.objects.watched().exists()
    if is_watching or system.workers.is_about_to_be_killed:
        return
    for wallet in (wallet for each in actions.payers for wallet in each.wallets):
        wallet.behaviour = PAYS
    own.lookup_behaviour = LookupBehaviour(never_settled=True)
    # No proof may be missed only because this machine is slow.
    with override_settings(NWC_TIMEOUT=30):
        payer = actions.add_tenant(wallet=PAYS, card=_CARD)
        payer.wallets[-1].connection.deny([] if has_node else ["get_info"])
        system.run()
        system.advance(delay)
    decide_contradictions(system)
    restore_own_wallet(system)


def decide_contradictions(system: System) -> int:
    """Decide as support what no wallet can, by what has really happened.

    Returns the number of decisions; a payment that may still arrive is not decided.
    """
    decided = 0
    for invoice in LightningInvoice.objects.watched().exclude(contradicted_at=None):
        try:
            decide_by_ledger(system.wallets, invoice)
        except NotResolvable:
            continue
        decided += 1
    return decided


# --- nobody pays twice without a person's decision


def double_payments(system: System) -> Iterator[str]:
    """Yield the invoices for which Caravel itself took more than their total.

    What a person paid by hand does not count, nor a payment by a wallet that broke its
    word: after it had refused, our own wallet confirmed that nothing came.
    """
    for invoice in tenant_invoices(system):
        taken = _charged(system, invoice) + _paid_by_wallets(system, invoice)
        if taken > max(0, invoice["total"]):
            yield f"{taken} were taken for {invoice['id']} over {invoice['total']}"


def _charged(system: System, invoice: Record) -> int:
    attempts = CardAttempt.objects.filter(collection=invoice["id"])
    paid = attempts.filter(state=CardAttempt.State.PAID)
    return sum(attempt.amount_cents for attempt in paid)


def _paid_by_wallets(system: System, invoice: Record) -> int:
    attempts = NwcPayment.objects.filter(stripe_invoice_id=invoice["id"])
    return sum(
        attempt.invoice.amount_cents
        for attempt in attempts.select_related("invoice")
        if _was_paid(system, attempt) and not _broke_its_word(system, attempt)
    )


def _was_paid(system: System, attempt: NwcPayment) -> bool:
    return system.wallets.ledger.is_settled(attempt.invoice.payment_hash)


def _broke_its_word(system: System, attempt: NwcPayment) -> bool:
    paid = system.wallets.ledger.invoice(payment_hash=attempt.invoice.payment_hash)
    final_at = attempt.refusal_final_at
    if paid is None or paid.settled_at is None or final_at is None:
        return False
    return paid.settled_at >= final_at.timestamp()
