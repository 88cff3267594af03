"""Which card an invoice is charged to, and what its payment means for others.

Sources: docs pages "Automate payment retries" (order of payment methods), "How
subscriptions work" (statuses), SDK docstring of Customer.delinquent. A new default
card charges nothing by itself: Stripe retries at once only for the legacy `source`
(SDK docstring of Customer.modify).
"""

from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.cycle import DAY
from sandbox.stripe.objects import payment_methods
from sandbox.stripe.objects.invoice_shape import subscription_of
from sandbox.stripe.objects.subscription_shape import ENDED
from sandbox.stripe.store import Record

UPDATED = "customer.subscription.updated"
FIRST_ATTEMPT_AFTER = 3_600


def payment_method(
    context: Context, invoice: Record, subscription: Record | None = None
) -> str | None:
    """Return the payment method an automatic charge would use.

    The invoice's, the subscription's, the customer's default; one that is no longer
    the customer's is passed over. A subscription that is not stored yet is given.
    """
    if subscription is None:
        subscription = context.store.get("subscription", subscription_of(invoice) or "")
    customer = context.store.get("customer", invoice["customer"]) or {}
    candidates: tuple[str | None, ...] = (
        invoice["default_payment_method"],
        (subscription or {}).get("default_payment_method"),
        customer.get("invoice_settings", {}).get("default_payment_method"),
    )
    return next(
        (
            method
            for method in candidates
            if payment_methods.belongs(context, method, invoice["customer"])
        ),
        None,
    )


def schedule_retry(context: Context, invoice: dict[str, Any]) -> None:
    """Say when an invoice that failed is tried again, if it is.

    Source: docs page "Automate payment retries", custom schedule: each retry comes a
    number of days after the attempt before; after the last, collection gives up.
    """
    if not collects_itself(invoice):
        return
    days, failed = context.settings.retry_after_days, invoice["attempt_count"]
    again = failed <= len(days)
    invoice["next_payment_attempt"] = (
        context.now + days[failed - 1] * DAY if again else None
    )
    invoice["_gives_up_at"] = None if again else context.now


def resume(context: Context, invoice: dict[str, Any]) -> None:
    """Go on with the collection of an open invoice that was stopped.

    What came due meanwhile comes now. Assumed, as no page says when: the first attempt
    comes an hour later, as with a draft; after a failed one, the next as scheduled.
    """
    due = [name for name in ("next_payment_attempt", "_gives_up_at") if invoice[name]]
    invoice.update({name: max(context.now, invoice[name]) for name in due})
    if due or not collects_itself(invoice):
        return
    if not invoice["attempt_count"]:
        invoice["next_payment_attempt"] = context.now + FIRST_ATTEMPT_AFTER
    elif invoice["attempt_count"] <= len(context.settings.retry_after_days):
        schedule_retry(context, invoice)


def collects_itself(invoice: Record) -> bool:
    """Return whether Stripe charges the invoice without being asked."""
    return bool(
        invoice["collection_method"] == "charge_automatically"
        and invoice["auto_advance"]
    )


def on_paid(context: Context, invoice: Record, method: str | None = None) -> None:
    """Let the subscription be active again; no longer delinquent is the customer."""
    subscription = _subscription(context, invoice)
    if subscription is not None and subscription["status"] not in ENDED:
        with context.update("subscription", subscription["id"], UPDATED) as draft:
            if _revives(context, subscription, invoice):
                draft["status"] = "active"
            remember(draft, method)
    set_delinquent(context, invoice["customer"], False)


def remember(subscription: dict[str, Any], method: str | None) -> None:
    """Make the card that paid the subscription's own, where that is its setting."""
    saves = subscription["payment_settings"]["save_default_payment_method"]
    if method and saves == "on_subscription":
        subscription["default_payment_method"] = method


def on_failed(context: Context, invoice: Record, *, automatic: bool) -> None:
    """Make an active subscription past due, and its customer delinquent.

    With invoices that are sent, only the due date does that.
    """
    automatically = invoice["collection_method"] == "charge_automatically"
    if automatically and invoice["status"] == "open":
        _make_past_due(context, invoice)
    if automatic:
        set_delinquent(context, invoice["customer"], True)


def on_past_due_date(context: Context, invoice: Record) -> None:
    """Make the subscription past due: the due date has passed."""
    _make_past_due(context, invoice)
    set_delinquent(context, invoice["customer"], True)


def on_uncollectible(context: Context, invoice: Record) -> None:
    """Let a past due subscription be active again: nothing more is expected."""
    _activate_past_due(context, invoice)
    set_delinquent(context, invoice["customer"], False)


def on_voided(context: Context, invoice: Record) -> None:
    """Take the subscription's status from the newest invoice that is not void."""
    _activate_past_due(context, invoice)


def is_latest(
    context: Context, subscription: str, invoice: Record, *, drafts: bool = False
) -> bool:
    """Return whether no newer invoice counts: void ones never do, drafts on demand."""
    newest = _newest(context, subscription, drafts=drafts)
    return newest is not None and newest["id"] == invoice["id"]


def set_delinquent(context: Context, id: str, delinquent: bool) -> None:
    """Note on a customer that lives how the last invoice went."""
    customer = context.store.get("customer", id)
    if customer and not customer.get("deleted"):
        with context.update("customer", id, "customer.updated") as draft:
            draft["delinquent"] = delinquent


def _revives(context: Context, subscription: Record, invoice: Record) -> bool:
    """Return whether this payment makes the subscription active.

    Docs page "How subscriptions work": an unpaid one, only by its most recent
    invoice, and before that is due; a past due one also later.
    """
    id, due = subscription["id"], invoice["due_date"]
    if subscription["status"] == "unpaid":
        in_time = due is None or context.now <= due
        return in_time and is_latest(context, id, invoice, drafts=True)
    if subscription["status"] == "past_due":
        return is_latest(context, id, invoice)
    first = subscription["latest_invoice"] == invoice["id"]
    return bool(subscription["status"] == "incomplete" and first)


def _make_past_due(context: Context, invoice: Record) -> None:
    subscription = _subscription(context, invoice)
    if subscription is None or subscription["status"] != "active":
        return
    if is_latest(context, subscription["id"], invoice):
        set_status(context, subscription["id"], "past_due")


def _activate_past_due(context: Context, invoice: Record) -> None:
    subscription = _subscription(context, invoice)
    if subscription is None or subscription["status"] != "past_due":
        return
    newest = _newest(context, subscription["id"], drafts=False)
    if newest is None or newest["status"] in ("paid", "uncollectible"):
        set_status(context, subscription["id"], "active")


def set_status(context: Context, id: str, status: str) -> None:
    """Change the status of a subscription."""
    with context.update("subscription", id, UPDATED) as draft:
        draft["status"] = status


def _newest(context: Context, subscription: str, *, drafts: bool) -> Record | None:
    passed_over = {"void"} if drafts else {"void", "draft"}
    invoices = context.store.scan("invoice", index=("_subscription", subscription))
    return next(
        (invoice for invoice in invoices if invoice["status"] not in passed_over), None
    )


def _subscription(context: Context, invoice: Record) -> Record | None:
    return context.store.get("subscription", subscription_of(invoice) or "")
