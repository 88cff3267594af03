"""Automatic collection: payment method, effects on subscription and customer.

Sources: docs pages "Automate payment retries" (order of payment methods), "How
subscriptions work" (statuses), SDK docstring of Customer.delinquent. A failed charge
is not retried, as on an account without a retry schedule.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.schemas.invoice import subscription_of
from sandbox.stripe.store.records import Record

UPDATED = "customer.subscription.updated"


def payment_method(
    context: Context, invoice: Record, subscription: Record | None = None
) -> str | None:
    """Return the payment method for an automatic charge, or None.

    It is the default of the subscription, else of the customer. Methods no longer
    attached to the customer are skipped. Pass `subscription` if it is not stored yet.
    """
    if subscription is None:
        subscription = context.store.get("subscription", subscription_of(invoice) or "")
    # The tombstone of a deleted customer has no `invoice_settings`.
    customer = context.store.get("customer", invoice["customer"]) or {}
    candidates: tuple[str | None, ...] = (
        (subscription or {}).get("default_payment_method"),
        customer.get("invoice_settings", {}).get("default_payment_method"),
    )
    for method in candidates:
        if payment_methods.is_attached(context, method, invoice["customer"]):
            return method
    return None


def on_paid(context: Context, invoice: Record) -> None:
    """Reactivate the subscription if possible; the customer is no longer delinquent."""
    subscription = _subscription(context, invoice)
    if subscription is not None and _reactivates(context, subscription, invoice):
        set_status(context, subscription["id"], "active")
    set_delinquent(context, invoice["customer"], False)
    _settle_resumption(context, invoice)


def on_processing(context: Context, invoice: Record) -> None:
    """Activate the subscription whose first invoice a bank debit is to pay.

    Assumed from the docs page "How subscriptions work": it is active from then on, and
    past due if the debit fails.
    """
    subscription = _subscription(context, invoice)
    if subscription and subscription["status"] == "incomplete":
        set_status(context, subscription["id"], "active")


def on_failed(context: Context, invoice: Record, *, automatic: bool) -> None:
    """Make an active subscription past due, and its customer delinquent.

    `send_invoice` invoices become past due at their due date instead.
    """
    charged = invoice["collection_method"] == "charge_automatically"
    # An uncollectible invoice can be paid, but no longer affects its subscription.
    if charged and invoice["status"] == "open":
        make_past_due(context, invoice)
        _resume_unpaid(context, invoice)
    # SDK docstring of Customer.delinquent: set by an automatic payment failure.
    if automatic:
        set_delinquent(context, invoice["customer"], True)


def is_latest(
    context: Context, subscription: str, invoice: Record, *, drafts: bool = False
) -> bool:
    """Return whether this is the newest invoice, ignoring void ones and drafts.

    `drafts` includes drafts in the comparison.
    """
    newest = _newest(context, subscription, drafts=drafts)
    return newest is not None and newest["id"] == invoice["id"]


def set_delinquent(context: Context, id: str, delinquent: bool) -> None:
    """Set the `delinquent` flag, unless the customer is deleted."""
    customer = context.store.get("customer", id)
    if customer and not customer.get("deleted"):
        context.change("customer", id, "customer.updated", delinquent=delinquent)


def _reactivates(context: Context, subscription: Record, invoice: Record) -> bool:
    """Return whether this payment makes the subscription active.

    Docs page "How subscriptions work": only the most recent invoice does; for an
    unpaid subscription it must also be paid before its due date.
    """
    id, due = subscription["id"], invoice["due_date"]
    if subscription["status"] == "unpaid":
        before_due = due is None or context.now <= due
        return before_due and is_latest(context, id, invoice, drafts=True)
    if subscription["status"] == "past_due":
        return is_latest(context, id, invoice)
    is_first = subscription["latest_invoice"] == invoice["id"]
    return bool(subscription["status"] == "incomplete" and is_first)


def make_past_due(context: Context, invoice: Record) -> None:
    """Make an active subscription past due if this is its newest invoice."""
    subscription = _subscription(context, invoice)
    if subscription is None or subscription["status"] != "active":
        return
    if is_latest(context, subscription["id"], invoice):
        set_status(context, subscription["id"], "past_due")


def on_written_off(context: Context, invoice: Record) -> None:
    """Reactivate a past due subscription whose newest invoice is paid or written off.

    Source: docs page "How subscriptions work". It may also end a resumption.
    """
    _settle_resumption(context, invoice)
    subscription = _subscription(context, invoice)
    if subscription is None or subscription["status"] != "past_due":
        return
    newest = _newest(context, subscription["id"], drafts=False)
    if newest is None or newest["status"] in ("paid", "uncollectible"):
        set_status(context, subscription["id"], "active")


def set_status(context: Context, id: str, status: str) -> None:
    """Set the status of a subscription."""
    context.change("subscription", id, UPDATED, status=status)


def finish_resumption(context: Context, id: str, status: str) -> None:
    """End the pause of a subscription: it gets the periods that were billed."""
    with context.update("subscription", id, UPDATED) as draft:
        resumed = draft.pop("_resumption")
        draft.pop("status_details", None)
        draft.update(
            billing_cycle_anchor=resumed["anchor"],
            pending_update=None,
            status=status,
            _items=resumed["items"],
        )
    # SDK: "no longer paused", so also when it is past due.
    context.emit("customer.subscription.resumed", draft)


def _settle_resumption(context: Context, invoice: Record) -> None:
    """Resume the subscription if the invoice is settled; if void, it stays paused."""
    subscription = _subscription(context, invoice)
    if not _is_resumption(subscription, invoice):
        return
    id = invoice["_subscription"]
    if invoice["status"] != "void":
        finish_resumption(context, id, "active")
        return
    context.change("subscription", id, UPDATED, pending_update=None, _resumption=None)


def _resume_unpaid(context: Context, invoice: Record) -> None:
    subscription = _subscription(context, invoice)
    if _is_resumption(subscription, invoice):
        id = invoice["_subscription"]
        if context.get("subscription", id)["_resumption"]["resumes_unpaid"]:
            finish_resumption(context, id, "past_due")


def _is_resumption(subscription: Record | None, invoice: Record) -> bool:
    """Return whether a paused subscription waits for this invoice."""
    if subscription is None or subscription["status"] != "paused":
        return False
    pending: Record = subscription.get("_resumption") or {}
    return bool(pending.get("invoice") == invoice["id"])


def _newest(context: Context, subscription: str, *, drafts: bool) -> Record | None:
    ignored = {"void"} if drafts else {"void", "draft"}
    invoices = context.store.scan("invoice", index=("_subscription", subscription))
    return next(
        (invoice for invoice in invoices if invoice["status"] not in ignored), None
    )


def _subscription(context: Context, invoice: Record) -> Record | None:
    return context.store.get("subscription", subscription_of(invoice) or "")
