"""Cancellation of a subscription (docs: API reference, "Cancel a subscription")."""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import missing
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.objects.invoices import items, lifecycle, paused_collection
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import prorations
from sandbox.stripe.store.records import Record


def cancel(
    context: Context,
    id: str,
    *,
    prorate: bool = False,
    invoice_now: bool = False,
    reason: str = "cancellation_requested",
) -> Record:
    """Cancel immediately. Raises a 404 if it has already ended.

    `prorate` credits the unused time. `invoice_now` puts pending items on a final
    draft, finalized an hour later like any other (assumed: the reference does not
    say); otherwise they stay for the customer's next scheduled invoice. With neither,
    pending prorations are deleted first (see the setting `canceled_prorations`).
    """
    subscription = context.get("subscription", id)
    if subscription["status"] in ENDED:
        raise missing("subscription", id)
    if prorate:
        for item in subscription["_items"]:
            prorations.create_credits(context, subscription, item)
    elif not invoice_now and context.settings.canceled_prorations == "deleted":
        for pending in items.pending(context, id):
            if pending["proration"]:
                items.delete_item(context, pending)
    final = _final_invoice(context, subscription) if invoice_now else None
    items.release_to_customer(context, subscription)
    return _end(context, id, final, reason)


def cancel_as_scheduled(context: Context, id: str) -> None:
    """Execute a scheduled cancellation and bill the pending items."""
    subscription = context.get("subscription", id)
    reason = subscription["cancellation_details"]["reason"]
    final = _final_invoice(context, subscription)
    _end(context, id, final, reason or "cancellation_requested")


def _final_invoice(context: Context, subscription: Record) -> Record | None:
    started = min(item["current_period_start"] for item in subscription["_items"])
    period = Period(started, context.now)
    invoice = lifecycle.bill_subscription(context, subscription, period=period)
    if invoice:
        paused_collection.apply(context, subscription, invoice)
    return invoice


def _end(context: Context, id: str, final: Record | None, reason: str) -> Record:
    with context.update("subscription", id) as ended:
        # A scheduled cancellation keeps the time of its request.
        ended["canceled_at"] = ended["canceled_at"] or context.now
        ended.update(ended_at=context.now, pending_update=None, status="canceled")
        ended.pop("status_details", None)
        ended["cancellation_details"]["reason"] = reason
        if final:
            ended["latest_invoice"] = final["id"]
    context.emit("customer.subscription.deleted", ended)
    lifecycle.stop_collection(context, ended["customer"])
    return ended
