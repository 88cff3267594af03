"""Timer of a charge: the end of a bank debit, or the dispute of a test card.

Source: docs pages "Testing" (disputes and fraud), "ACH Direct Debit".
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.objects.invoices import pay
from sandbox.stripe.objects.payments import charges
from sandbox.stripe.objects.reversals import disputes, fraud_warnings
from sandbox.stripe.objects.schemas.test_bank_accounts import ACCOUNTS, BankAccount
from sandbox.stripe.objects.schemas.test_cards import CARDS
from sandbox.stripe.store.records import Record


def _due_at(charge: Record) -> int | None:
    at: int | None = charge.get("_acts_at")
    return at


def _run(context: Context, charge: Record) -> None:
    changed = context.change(charges.KIND, charge["id"], _acts_at=None)
    method = context.get("payment_method", charge["payment_method"])
    if "_bank_account" in method:
        _act_on_debit(context, changed, ACCOUNTS[method["_bank_account"]])
        return
    card = CARDS[method["_card"]]
    if card.fraud_warning:
        fraud_warnings.issue(context, changed)
    if card.dispute and _can_be_disputed(changed):
        disputes.open_dispute(
            context, changed, reason=card.dispute, inquiry=card.is_inquiry
        )


def _act_on_debit(context: Context, charge: Record, account: BankAccount) -> None:
    if charge["status"] == "pending":
        pay.settle(context, charge["payment_intent"], failure=account.failure)
    elif _can_be_disputed(charge):
        disputes.open_dispute(context, charge, reason="debit_not_authorized")


def _can_be_disputed(charge: Record) -> bool:
    """Return whether nothing has happened to the charge since it succeeded."""
    return not (charge["disputed"] or charge["refunded"])


TIMER = Timer(_due_at, _run)
