"""Resumption of a paused subscription, with its invoice.

Sources: docs page "Pause subscriptions", SDK docstring of Subscription.resume. Assumed:
the billing reason of the invoice, and that a failed attempt resumes it as past due.
"""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Choice, Hash, Shape
from sandbox.stripe.api.routing import Params
from sandbox.stripe.clock.periods import DAY, Period, period_at
from sandbox.stripe.objects.fields import nulls
from sandbox.stripe.objects.invoices import collection, lifecycle, pay, payment_records
from sandbox.stripe.objects.invoices.collection import UPDATED
from sandbox.stripe.objects.subscriptions import billing, prorations
from sandbox.stripe.store.records import Record

ON_ATTEMPT, ON_SUCCESS = "resume_on_payment_attempt", "resume_on_payment_success"
LIFETIMES: Mapping[str, int] = {ON_ATTEMPT: 23 * 3_600, ON_SUCCESS: 365 * DAY}
PARAMS = Shape(
    {
        "billing_cycle_anchor": Hash(
            {"type": Choice(("now", "unchanged"))}, required=("type",)
        ),
        "payment_behavior": Choice((ON_ATTEMPT, ON_SUCCESS)),
        "proration_behavior": Choice(("always_invoice", "create_prorations", "none")),
    }
)


def resume(context: Context, id: str, params: Params) -> Record:
    """Resume a subscription, at once if there is nothing to bill. Raises a 400."""
    subscription = context.get("subscription", id)
    behavior = params.get("payment_behavior", ON_ATTEMPT)
    _check_resumable(context, subscription, behavior)
    with context.update("subscription", id, UPDATED) as waiting:
        resumed = clone(waiting)
        invoice = _bill(context, resumed, params)
        waiting["_resumption"] = {
            "anchor": resumed["billing_cycle_anchor"],
            "items": resumed["_items"],
        }
        if invoice:
            _wait_for(context, waiting, invoice["id"], behavior)
    if invoice is None:
        collection.finish_resumption(context, id, "active")
    else:
        _collect(context, invoice["id"], behavior)
    return context.get("subscription", id)


def is_pending(subscription: Record) -> bool:
    """Return whether an invoice has to be paid before the subscription resumes."""
    return subscription.get("_resumption") is not None


def expires_at(subscription: Record) -> int | None:
    """Return when an unpaid resumption ends, or None."""
    pending: Mapping[str, Any] = subscription.get("_resumption") or {}
    return pending.get("expires_at")


def expire(context: Context, id: str) -> None:
    """Void the unpaid invoice of a resumption; the subscription stays paused."""
    pending = context.get("subscription", id)["_resumption"]
    context.change("subscription", id, _resumption={**pending, "expires_at": None})
    invoice = context.get("invoice", pending["invoice"])
    # A bank debit that is on its way still resumes it.
    is_processing = payment_records.is_processing(context, invoice["id"])
    if invoice["status"] == "open" and not is_processing:
        lifecycle.void(context, invoice["id"])


def _set_periods(context: Context, draft: dict[str, Any]) -> None:
    for item in draft["_items"]:
        interval = context.get("price", item["price"])["recurring"]["interval"]
        start, end = period_at(draft["billing_cycle_anchor"], interval, context.now)
        item.update(current_period_start=start, current_period_end=end)


def _bill(context: Context, draft: dict[str, Any], params: Params) -> Record | None:
    """Bill periods that start now, or the rest of the present ones."""
    if params.get("billing_cycle_anchor", {}).get("type", "now") == "now":
        draft["billing_cycle_anchor"] = context.now
        _set_periods(context, draft)
        return _new_invoice(context, draft, draft["_items"])
    _set_periods(context, draft)
    behavior = params.get("proration_behavior", "create_prorations")
    for item in draft["_items"] if behavior != "none" else ():
        prorations.create_debit(context, draft, item)
    return _new_invoice(context, draft, []) if behavior == "always_invoice" else None


def _new_invoice(
    context: Context, draft: dict[str, Any], items: list[dict[str, Any]]
) -> Record | None:
    period = Period(context.now, context.now)
    reason = "subscription_update"
    return billing.bill(context, draft, items, reason=reason, period=period)


def _wait_for(
    context: Context, draft: dict[str, Any], invoice: str, behavior: str
) -> None:
    """Let a subscription wait for the payment of an invoice."""
    expires_at = context.now + LIFETIMES[behavior]
    draft["latest_invoice"] = invoice
    draft["pending_update"] = {
        "billing_cycle_anchor": draft["_resumption"]["anchor"],
        "expires_at": expires_at,
        **nulls(
            "cancel_at_period_end discount discounts metadata subscription_items "
            "trial_end trial_from_plan"
        ),
    }
    draft["_resumption"].update(
        expires_at=expires_at,
        invoice=invoice,
        resumes_unpaid=behavior == ON_ATTEMPT,
    )


def _collect(context: Context, id: str, behavior: str) -> None:
    """Finalize the invoice of a resumption, and charge it if `behavior` says so."""
    invoice = lifecycle.finalize(context, id, auto_advance=False)
    if behavior == ON_SUCCESS and invoice["status"] == "open":
        method = collection.payment_method(context, invoice)
        pay.attempt(context, id, method, automatic=True)


def _check_resumable(context: Context, subscription: Record, behavior: str) -> None:
    if subscription["status"] != "paused":
        raise invalid("Only a subscription with status `paused` can be resumed.")
    if subscription["collection_method"] == "send_invoice":
        raise invalid(
            "A subscription with `collection_method=send_invoice` cannot be resumed."
        )
    if is_pending(subscription):
        raise invalid("Pay or void the invoice of the earlier resumption first.")
    owner = {"customer": subscription["customer"], "parent": None}
    method = collection.payment_method(context, owner, subscription)
    if behavior == ON_SUCCESS and method is None:
        raise invalid(
            "This customer has no attached payment source or default payment method.",
            code="resource_missing",
        )
