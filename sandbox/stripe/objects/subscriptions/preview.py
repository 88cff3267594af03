"""Preview of a subscription's next invoice, as it is or after a change.

Source: API reference, "Create a preview invoice". The sandbox runs the real change and
renewal and rolls them back, so a preview matches what it would bill.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError, invalid, missing
from sandbox.stripe.api.params import Array, Boolean, Choice, Hash, Integer, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.objects.invoices import lifecycle
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import (
    cancel,
    renewal,
    scheduled_cancellation,
    subscriptions,
)
from sandbox.stripe.objects.subscriptions import (
    changes as subscription_changes,
)
from sandbox.stripe.store.records import Record

# No object type: a resource of its own, so that its route precedes those of invoices.
resource = Resource("_invoice_preview")

DETAILS = Hash(
    {
        **scheduled_cancellation.FIELDS,
        "cancel_now": Boolean(),
        "items": Array(subscription_changes.ITEM_CHANGE),
        "proration_behavior": subscription_changes.PRORATION_BEHAVIOR,
        "proration_date": Integer(0),
    }
)
CREATE = Shape(
    {
        "customer": Text(),
        "preview_mode": Choice(("next",)),
        "subscription": Text(),
        "subscription_details": DETAILS,
    }
)


@resource.post("/v1/invoices/create_preview", CREATE)
def create(context: Context, params: Params) -> Record:
    """Return the next invoice without storing it. Raises a 400 or a 404."""
    subscription = _subscription(context, params)
    with context.rollback():
        invoice = _next_invoice(
            context, subscription, params.get("subscription_details", {})
        )
    # Stripe's previews have an id too, but cannot be retrieved by it.
    id = context.ids.new("upcoming_in")
    return {
        **invoice,
        "id": id,
        "auto_advance": False,
        "automatically_finalizes_at": None,
        "billing_reason": "upcoming",
        "_lines": [{**line, "invoice": id} for line in invoice["_lines"]],
    }


def _subscription(context: Context, params: Params) -> Record:
    """Return the named subscription, or the customer's next one to be billed."""
    if "subscription" in params:
        named = context.get_referenced(
            "subscription", params["subscription"], "subscription"
        )
        if params.get("customer") not in (None, named["customer"]):
            raise missing("subscription", named["id"], param="subscription", status=400)
        return named
    if "customer" not in params:
        raise invalid("You must specify `customer` or `subscription`.")
    if "items" in params.get("subscription_details", {}):
        raise invalid(
            "The sandbox does not preview a subscription that does not exist yet.",
            param="subscription_details[items]",
        )
    customer = context.get_referenced("customer", params["customer"], "customer")["id"]
    live = [
        record
        for record in context.store.scan("subscription", index=("customer", customer))
        if record["status"] not in ENDED
    ]
    if not live:
        raise _no_upcoming_invoice(customer)
    return min(live, key=renewal.next_period_end)


def _next_invoice(context: Context, subscription: Record, details: Params) -> Record:
    id = subscription["id"]
    if subscription["status"] in ENDED:
        raise _no_upcoming_invoice(subscription["customer"])
    behavior = details.get("proration_behavior", "create_prorations")
    if details.get("cancel_now"):
        cancel.cancel(context, id, prorate=behavior != "none", invoice_now=True)
        return _new_invoice(context, subscription)
    if behavior == "always_invoice":
        # Create prorations only: `always_invoice` would also finalize the invoice.
        behavior = "create_prorations"
    changes = {key: details[key] for key in details if key != "cancel_now"}
    subscriptions.update(context, {**changes, "proration_behavior": behavior}, id)
    if details.get("proration_behavior") == "always_invoice":
        return _proration_invoice(context, context.get("subscription", id))
    return _renewal(context, context.get("subscription", id))


def _proration_invoice(context: Context, subscription: Record) -> Record:
    invoice = lifecycle.bill_subscription(
        context,
        subscription,
        [],
        reason="subscription_update",
        period=Period(context.now, context.now),
    )
    if invoice is None:
        raise _no_upcoming_invoice(subscription["customer"])
    return invoice


def _renewal(context: Context, subscription: Record) -> Record:
    end = renewal.next_period_end(subscription)
    cancel_at = subscription["cancel_at"]
    # At its own time, as the scheduler would run it.
    later = context.at_time(min(end, cancel_at or end))
    if cancel_at and cancel_at <= later.now:
        cancel.cancel_as_scheduled(later, subscription["id"])
    else:
        renewal.renew(later, subscription["id"])
    return _new_invoice(context, subscription)


def _new_invoice(context: Context, before: Record) -> Record:
    id = context.get("subscription", before["id"])["latest_invoice"]
    if id == before["latest_invoice"]:
        raise _no_upcoming_invoice(before["customer"])
    return context.get("invoice", id)


def _no_upcoming_invoice(customer: str) -> StripeError:
    return StripeError(
        404,
        f"No upcoming invoices for customer: {customer}",
        code="invoice_upcoming_none",
    )
