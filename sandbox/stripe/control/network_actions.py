"""Commands for what only banks and card networks do: refunds that end, disputes."""

from typing import Any

from sandbox.common.control import Command, Commands
from sandbox.common.fields import Fields
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects.reversals import refunds

Result = dict[str, Any]
OUTCOMES = ("succeeded", "failed")


def settle_refund(app: StripeApp, fields: Fields, refund: str) -> Result:
    """Let a pending refund succeed, or any fail with a `reason`."""
    reason = None
    if fields.choice("outcome", OUTCOMES) == "failed":
        reason = fields.choice("reason", refunds.FAILURE_REASONS, "unknown")
    return app.transact(
        lambda context: context.serialize(
            refunds.settle(context, refund, failure_reason=reason)
        )
    )


COMMANDS: Commands = {
    ("POST", r"refunds/(\w+)/settle"): Command(settle_refund, ("outcome", "reason")),
}
