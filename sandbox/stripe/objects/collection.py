"""Charging an invoice, and what its payment means for the subscription."""

from sandbox.stripe.context import Context
from sandbox.stripe.objects.invoice_shape import subscription_of
from sandbox.stripe.store import Record


def payment_method(context: Context, invoice: Record) -> str | None:
    """Return the payment method an automatic charge would use.

    Order: the invoice's, the subscription's, the customer's default (docs page
    "Set up payment methods", priority).
    """
    subscription = context.store.get("subscription", subscription_of(invoice) or "")
    customer = context.store.get("customer", invoice["customer"]) or {}
    candidates: tuple[str | None, ...] = (
        invoice["default_payment_method"],
        (subscription or {}).get("default_payment_method"),
        customer.get("invoice_settings", {}).get("default_payment_method"),
    )
    return next((method for method in candidates if method), None)


def charge(context: Context, invoice: Record, method: str | None) -> bool:
    """Return whether a charge goes through: any named payment method pays."""
    return method is not None


def on_paid(context: Context, invoice: Record) -> None:
    """Make a subscription active again once its latest invoice is paid."""
    _set_status(context, invoice, {"incomplete", "past_due"}, "active")


def on_failed(context: Context, invoice: Record) -> None:
    """Make an active subscription past due when its invoice cannot be charged."""
    _set_status(context, invoice, {"active"}, "past_due")


def _set_status(
    context: Context, invoice: Record, before: set[str], after: str
) -> None:
    id = subscription_of(invoice)
    subscription = context.store.get("subscription", id) if id else None
    if subscription is None or subscription["latest_invoice"] != invoice["id"]:
        return
    if subscription["status"] in before:
        event = "customer.subscription.updated"
        with context.edit("subscription", subscription["id"], event) as draft:
            draft["status"] = after
