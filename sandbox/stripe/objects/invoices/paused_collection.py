"""New invoices of a subscription while its payment collection is paused.

Source: docs page "Pause payment collection". Assumed: `mark_uncollectible` acts as
early as `void`, which does "immediately", and a void invoice is never `open`.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.invoices import lifecycle
from sandbox.stripe.store.records import Record

BEHAVIORS = ("keep_as_draft", "mark_uncollectible", "void")
REASON = "subscription_paused"


def apply(context: Context, subscription: Record, invoice: Record) -> bool:
    """Treat a new draft as `pause_collection` says; return whether it is paused."""
    pause = subscription["pause_collection"]
    if pause is None:
        return False
    if pause["behavior"] == "void":
        lifecycle.void_draft(context, invoice["id"])
    elif pause["behavior"] == "mark_uncollectible":
        # The balance is applied first: an invoice that it pays is paid.
        finalized = lifecycle.finalize(context, invoice["id"], auto_advance=False)
        if finalized["status"] == "open":
            lifecycle.mark_uncollectible(context, invoice["id"], reason=REASON)
    return True
