"""Finalization of drafts is delayed while delivery of `invoice.created` fails.

Source: docs page "Status transitions and finalization": a draft is finalized an hour
after all endpoints have answered with success, else after 72 hours; SDK docstring of
`webhooks_delivered_at`: without endpoints, an hour after the invoice was created.

Assumed: a draft waits only for a delivery that was tried and failed. A delivery not
tried yet (paused, delayed, or the clock was moved) counts as delivered when the
invoice was created. So does one dropped by a fault: no attempts are left.
"""

from typing import Any

from sandbox.stripe.api.context import DELIVERY, Context, subscribers
from sandbox.stripe.store.records import Record, Store

CREATED = "invoice.created"
DRAFT_PERIOD = 3_600
MAX_DELAY = 72 * 3_600


def schedule(context: Context, invoice: dict[str, Any]) -> None:
    """Schedule the finalization of a new draft."""
    if invoice["auto_advance"] and not invoice.get("_scheduled"):
        invoice["automatically_finalizes_at"] = context.now + DRAFT_PERIOD
    if not subscribers(context.store, CREATED):
        invoice["webhooks_delivered_at"] = context.now


def postpone_if_undelivered(context: Context, invoice: Record) -> bool:
    """Postpone a draft that is due if its delivery fails; return whether it was."""
    deadline = invoice["created"] + MAX_DELAY
    if invoice.get("_scheduled"):
        return False
    if context.now >= deadline or not _is_failing(context.store, invoice["id"]):
        return False
    context.change("invoice", invoice["id"], automatically_finalizes_at=deadline)
    return True


def record_delivery(store: Store, delivery: Record, event: Record, now: int) -> None:
    """Update the draft of a delivered event; its hour starts with the last endpoint."""
    invoice = store.get("invoice", delivery.get("draft") or "")
    if invoice is None or invoice.get("deleted") or event["pending_webhooks"]:
        return
    if invoice["webhooks_delivered_at"] is not None:
        return
    at, deadline = invoice["automatically_finalizes_at"], invoice["created"] + MAX_DELAY
    failed = delivery["attempts"] > 0 or at == deadline
    updated = {**invoice, "webhooks_delivered_at": now if failed else event["created"]}
    if failed and at and not invoice.get("_scheduled"):
        updated["automatically_finalizes_at"] = min(
            now + DRAFT_PERIOD, max(at, deadline)
        )
    store.put("invoice", updated)


def record_reachability(store: Store, endpoint: str, answered: bool) -> None:
    """Record whether an endpoint answers.

    While it does not, deliveries queued behind the current one count as failed too.
    """
    record = store.get("webhook_endpoint", endpoint)
    if record is not None and record.get("_unreachable", False) is answered:
        store.put("webhook_endpoint", {**record, "_unreachable": not answered})


def _is_failing(store: Store, invoice: str) -> bool:
    return any(
        delivery["attempts"] > 0 or _is_unreachable(store, delivery["endpoint"])
        for delivery in store.scan(DELIVERY, index=("draft", invoice))
    )


def _is_unreachable(store: Store, endpoint: str) -> bool:
    record = store.get("webhook_endpoint", endpoint) or {}
    return record.get("status") == "enabled" and bool(record.get("_unreachable"))
