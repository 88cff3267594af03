"""Decisions of banks: disputes, fraud warnings, debits that end."""

from billing.tests.support.simulation.actions import Payer
from billing.tests.support.simulation.staff.objects import (
    StaffAction,
    invoices,
    of_payer,
    pick,
    succeeded_charges,
    transact,
)
from billing.tests.support.simulation.system import System
from sandbox.stripe.objects.invoices import pay
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.stripe.objects.reversals import disputes, fraud_warnings

ACCOUNTS = (
    "pm_usBankAccount_success",
    "pm_usBankAccount_processing",
    "pm_usBankAccount_insufficientFunds",
    "pm_usBankAccount_dispute",
)


def dispute(system: System, payer: Payer, variant: int) -> None:
    """Dispute a charge, in whole or (variant 3) in part."""
    for charge in pick(succeeded_charges(system, payer), variant):
        amount = charge["amount"] // 2 if variant == 3 else None
        transact(system, disputes.open_dispute, charge, amount=amount)


def inquire(system: System, payer: Payer, variant: int) -> None:
    """Open an inquiry, or escalate one to a chargeback."""
    for dispute in _open_disputes(system, payer, "warning_"):
        transact(system, disputes.escalate, dispute)
        return
    for charge in pick(succeeded_charges(system, payer), variant):
        transact(system, disputes.open_dispute, charge, inquiry=True)


def win_dispute(system: System, payer: Payer, variant: int) -> None:
    for id in _open_disputes(system, payer, "needs_response", "under_review"):
        transact(system, disputes.close, id, "won")


def lose_dispute(system: System, payer: Payer, variant: int) -> None:
    for id in _open_disputes(system, payer, "needs_response", "under_review"):
        transact(system, disputes.close, id, "lost")


def close_inquiry(system: System, payer: Payer, variant: int) -> None:
    for id in _open_disputes(system, payer, "warning_"):
        transact(system, disputes.close, id, "warning_closed")


def warn_of_fraud(system: System, payer: Payer, variant: int) -> None:
    """Issue an early fraud warning about a charge."""
    for charge in pick(succeeded_charges(system, payer), variant):
        transact(system, fraud_warnings.issue, charge)


def debit_bank_account(system: System, payer: Payer, variant: int) -> None:
    """Pay an invoice on Stripe's page from a bank account, which takes days."""
    for invoice in pick(invoices(system, payer, "open", "uncollectible"), variant):
        with system.paid_by_the_payer():
            transact(system, hosted_actions.pay, invoice["id"], ACCOUNTS[variant])


def settle_debit(system: System, payer: Payer, variant: int) -> None:
    """Let a bank debit succeed or (odd variants) fail."""
    failure = "account_closed" if variant % 2 else None
    for id in processing(system, payer):
        transact(system, pay.settle, id, failure=failure)


def processing(system: System, payer: Payer) -> list[str]:
    """Return the payer's intents whose debit has not ended."""
    intents = of_payer(system, payer, "payment_intent")
    return [item["id"] for item in intents if item["status"] == "processing"]


def _open_disputes(system: System, payer: Payer, *statuses: str) -> list[str]:
    charges = {charge["id"] for charge in succeeded_charges(system, payer)}
    return [
        dispute["id"]
        for dispute in system.stripe.app.store.scan("dispute")
        if dispute["charge"] in charges
        and dispute["status"].startswith(statuses)
        and dispute["status"] != "warning_closed"
    ]


ACTIONS: tuple[StaffAction, ...] = (
    dispute,
    inquire,
    win_dispute,
    lose_dispute,
    close_inquiry,
    warn_of_fraud,
    debit_bank_account,
    settle_debit,
)
