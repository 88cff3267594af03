"""How long a draft waits for the endpoints that listen to `invoice.created`.

Source: docs page "Status transitions and finalization": an hour after the endpoints
have answered with success, else after 72 hours; and the SDK's docstring of
`webhooks_delivered_at`: with nobody to tell, an hour after the invoice was made.

Assumed: only a delivery that was tried and failed makes a draft wait. One that has not
been tried yet, because deliveries are paused or held back or only the clock was moved,
counts as delivered when the invoice was made; so does one that a fault dropped, since
with it all attempts are exhausted.
"""

from typing import Any

from sandbox.stripe.context import DELIVERY, Context
from sandbox.stripe.store import Record, Store

CREATED = "invoice.created"
DRAFT_PERIOD = 3_600
LONGEST = 72 * 3_600


def begin(context: Context, invoice: dict[str, Any]) -> None:
    """Schedule a new draft; it waits for no delivery when nobody listens."""
    if invoice["auto_advance"]:
        at = invoice["automatically_finalizes_at"]
        invoice["automatically_finalizes_at"] = at or context.now + DRAFT_PERIOD
    if not context.subscribers(CREATED):
        invoice["webhooks_delivered_at"] = context.now


def postponed(context: Context, invoice: Record) -> bool:
    """Return whether a draft that is due has to wait on; its schedule then says so."""
    deadline = invoice["created"] + LONGEST
    # Who set the time by hand waits for no endpoint (docs page "Schedule invoice
    # finalization").
    waits = _scheduled(invoice) == DRAFT_PERIOD and context.now < deadline
    if not waits or not _failing(context.store, invoice["id"]):
        return False
    with context.update("invoice", invoice["id"]) as draft:
        draft["automatically_finalizes_at"] = deadline
    return True


def acknowledged(store: Store, delivery: Record, event: Record, now: int) -> None:
    """Note that an endpoint took an event; the last one lets a draft's hour begin."""
    invoice = store.get("invoice", delivery.get("draft") or "")
    if invoice is None or event["pending_webhooks"] or _delivered(invoice):
        return
    failed = delivery["attempts"] > 0 or _scheduled(invoice) == LONGEST
    changed = {**invoice, "webhooks_delivered_at": now if failed else event["created"]}
    if failed and _scheduled(invoice) in (DRAFT_PERIOD, LONGEST):
        changed["automatically_finalizes_at"] = min(
            now + DRAFT_PERIOD, invoice["created"] + LONGEST
        )
    store.put("invoice", changed)


def reached(store: Store, endpoint: str, answered: bool) -> None:
    """Note whether an endpoint answers at all: what waits behind has failed as well."""
    record = store.get("webhook_endpoint", endpoint)
    if record is not None and record.get("_unreachable", False) is answered:
        store.put("webhook_endpoint", {**record, "_unreachable": not answered})


def _failing(store: Store, invoice: str) -> bool:
    return any(
        delivery["attempts"] > 0 or _is_unreachable(store, delivery["endpoint"])
        for delivery in store.scan(DELIVERY, index=("draft", invoice))
    )


def _is_unreachable(store: Store, endpoint: str) -> bool:
    record = store.get("webhook_endpoint", endpoint) or {}
    return record.get("status") == "enabled" and bool(record.get("_unreachable"))


def _delivered(invoice: Record) -> bool:
    return invoice.get("deleted", False) or invoice["webhooks_delivered_at"] is not None


def _scheduled(invoice: Record) -> int | None:
    """Return after how many seconds a draft finalizes itself, if it does."""
    at = invoice["automatically_finalizes_at"]
    return at - invoice["created"] if at and invoice["status"] == "draft" else None
