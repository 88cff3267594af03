"""New invoices of a subscription while its payment collection is paused.

Source: docs page "Pause payment collection". It says "immediately" of `void` only,
hence the setting `paused_invoices`. Assumed: a void invoice is never `open`.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.invoices import lifecycle
from sandbox.stripe.objects.invoices.finalization_delay import DRAFT_PERIOD
from sandbox.stripe.store.records import Record

BEHAVIORS = ("keep_as_draft", "mark_uncollectible", "void")
REASON = "subscription_paused"


def apply(context: Context, subscription: Record, invoice: Record) -> bool:
    """Treat a new draft as `pause_collection` says; return whether it is paused."""
    pause = subscription["pause_collection"]
    if pause is None:
        return False
    if pause["behavior"] != "keep_as_draft":
        waits = context.settings.paused_invoices == "after_an_hour"
        at = context.now + DRAFT_PERIOD if waits else context.now
        changes = {"_pause_behavior": pause["behavior"], "_pause_acts_at": at}
        changed = context.change("invoice", invoice["id"], **changes)
        if not waits:
            act(context, changed)
    return True


def acts_at(invoice: Record) -> int | None:
    """Return when a draft of a paused subscription is to be written off, or None."""
    at: int | None = invoice.get("_pause_acts_at")
    return at if invoice["status"] == "draft" else None


def act(context: Context, invoice: Record) -> None:
    """Void a draft, or mark it uncollectible."""
    context.change("invoice", invoice["id"], _pause_acts_at=None)
    if invoice["_pause_behavior"] == "void":
        lifecycle.void_draft(context, invoice["id"])
        return
    # The balance is applied first: an invoice that it pays is paid.
    finalized = lifecycle.finalize(context, invoice["id"], auto_advance=False)
    if finalized["status"] == "open":
        lifecycle.mark_uncollectible(context, invoice["id"], reason=REASON)
