"""Commands for what only banks and card networks do: disputes, refunds that end."""

from collections.abc import Callable
from typing import Any, get_args

from sandbox.common.control import Command, Commands
from sandbox.common.fields import Fields
from sandbox.stripe.api.context import Context
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects.invoices import pay
from sandbox.stripe.objects.payments import charges, payment_methods
from sandbox.stripe.objects.reversals import disputes, fraud_warnings, refunds
from sandbox.stripe.store.records import Record

Result = dict[str, Any]
OUTCOMES = ("succeeded", "failed")
FAILURES = ("account_closed", "debit_not_authorized", "insufficient_funds")
KINDS = ("chargeback", "inquiry")


def open_dispute(app: StripeApp, fields: Fields, charge: str) -> Result:
    """Open the dispute of a charge: a chargeback, or an inquiry before one."""
    options: dict[str, Any] = {
        "amount": fields.optional(fields.integer, "amount", minimum=1),
        "days": fields.integer("days", disputes.RESPONSE_DAYS, maximum=90),
        "inquiry": fields.choice("kind", KINDS, "chargeback") == "inquiry",
        "reason": fields.choice("reason", disputes.REASONS, "fraudulent"),
    }
    return _run(
        app,
        lambda context: disputes.open_dispute(
            context, context.get(charges.KIND, charge), **options
        ),
    )


def close_dispute(app: StripeApp, fields: Fields, dispute: str) -> Result:
    """End a dispute with an outcome."""
    outcome = fields.choice("outcome", get_args(disputes.Outcome))
    return _run(app, lambda context: disputes.close(context, dispute, outcome))


def escalate(app: StripeApp, fields: Fields, dispute: str) -> Result:
    """Turn an inquiry into a chargeback."""
    return _run(app, lambda context: disputes.escalate(context, dispute))


def warn(app: StripeApp, fields: Fields, charge: str) -> Result:
    """Issue an early fraud warning about a charge."""
    type = fields.choice("fraud_type", fraud_warnings.FRAUD_TYPES, "misc")
    return _run(
        app,
        lambda context: fraud_warnings.issue(
            context, context.get(charges.KIND, charge), type
        ),
    )


def reissue(app: StripeApp, fields: Fields, method: str) -> Result:
    """Replace a saved card in place by another test card."""
    card = fields.text("card")
    return _run(app, lambda context: payment_methods.reissue(context, method, card))


def settle_payment(app: StripeApp, fields: Fields, intent: str) -> Result:
    """End a bank debit that is being processed; a failed one has a `reason`."""
    failure = None
    if fields.choice("outcome", OUTCOMES) == "failed":
        failure = fields.choice("reason", FAILURES, "insufficient_funds")

    def settle(context: Context) -> Record:
        pay.settle(context, intent, failure=failure)
        return context.get("payment_intent", intent)

    return _run(app, settle)


def settle_refund(app: StripeApp, fields: Fields, refund: str) -> Result:
    """Let a pending refund succeed, or any fail with a `reason`."""
    reason = None
    if fields.choice("outcome", OUTCOMES) == "failed":
        reason = fields.choice("reason", refunds.FAILURE_REASONS, "unknown")
    return _run(
        app, lambda context: refunds.settle(context, refund, failure_reason=reason)
    )


def _run(app: StripeApp, work: Callable[[Context], Record]) -> Result:
    return app.transact(lambda context: context.serialize(work(context)))


COMMANDS: Commands = {
    ("POST", r"charges/(\w+)/dispute"): Command(
        open_dispute, ("amount", "days", "kind", "reason")
    ),
    ("POST", r"charges/(\w+)/early_fraud_warning"): Command(warn, ("fraud_type",)),
    ("POST", r"disputes/(\w+)/close"): Command(close_dispute, ("outcome",)),
    ("POST", r"disputes/(\w+)/escalate"): Command(escalate),
    ("POST", r"payment_intents/(\w+)/settle"): Command(
        settle_payment, ("outcome", "reason")
    ),
    ("POST", r"payment_methods/(\w+)/reissue"): Command(reissue, ("card",)),
    ("POST", r"refunds/(\w+)/settle"): Command(settle_refund, ("outcome", "reason")),
}
