"""The next invoice of a subscription, as it is or as it would be after a change.

Source: API reference, "Create a preview invoice". What would happen does happen, and
is then undone: so a preview is right wherever the sandbox is.
"""

from sandbox.stripe.context import Context
from sandbox.stripe.cycle import Period
from sandbox.stripe.objects import (
    cancellation,
    invoice_lifecycle,
    subscription_changes,
    subscription_cycle,
    subscription_end,
    subscriptions,
)
from sandbox.stripe.objects.subscription_shape import ENDED
from sandbox.stripe.protocol.errors import StripeError, invalid, missing
from sandbox.stripe.protocol.params import (
    Array,
    Boolean,
    Choice,
    Hash,
    Integer,
    Shape,
    Text,
)
from sandbox.stripe.resource import Params, Resource
from sandbox.stripe.store import Record

# Its answers are invoices; the name only keeps its route ahead of theirs.
resource = Resource("_invoice_preview")

DETAILS = Hash(
    {
        **cancellation.FIELDS,
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
    """Return what would be billed next; nothing is changed. Raises a 400 or a 404."""
    subscription = _subscription(context, params)
    with context.rollback():
        invoice = _next(context, subscription, params.get("subscription_details", {}))
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
    """Return the subscription that is named, or the customer's next to be billed."""
    if "subscription" in params:
        found = context.get_referenced(
            "subscription", params["subscription"], "subscription"
        )
        if params.get("customer") not in (None, found["customer"]):
            raise missing("subscription", found["id"], param="subscription", status=400)
        return found
    if "customer" not in params:
        raise invalid("You must specify `customer` or `subscription`.")
    if "items" in params.get("subscription_details", {}):
        raise invalid(
            "The sandbox does not preview a subscription that does not exist yet.",
            param="subscription_details[items]",
        )
    customer = context.get_referenced("customer", params["customer"], "customer")["id"]
    live = [
        one
        for one in context.store.scan("subscription", index=("customer", customer))
        if one["status"] not in ENDED
    ]
    if not live:
        raise _nothing(customer)
    return min(live, key=subscription_cycle.next_end)


def _next(context: Context, subscription: Record, details: Params) -> Record:
    id = subscription["id"]
    if subscription["status"] in ENDED:
        raise _nothing(subscription["customer"])
    behavior = details.get("proration_behavior", "create_prorations")
    if details.get("cancel_now"):
        subscription_end.cancel(
            context, id, prorate=behavior != "none", invoice_now=True
        )
        return _new_one(context, subscription)
    if behavior == "always_invoice":
        # Billed here, since the real thing would finalize the invoice as well.
        behavior = "create_prorations"
    changes = {key: details[key] for key in details if key != "cancel_now"}
    subscriptions.update(context, {**changes, "proration_behavior": behavior}, id)
    if details.get("proration_behavior") == "always_invoice":
        return _prorations(context, context.get("subscription", id))
    return _renewal(context, context.get("subscription", id))


def _prorations(context: Context, subscription: Record) -> Record:
    invoice = invoice_lifecycle.bill_subscription(
        context,
        subscription,
        [],
        reason="subscription_update",
        period=Period(context.now, context.now),
    )
    if invoice is None:
        raise _nothing(subscription["customer"])
    return invoice


def _renewal(context: Context, subscription: Record) -> Record:
    end = subscription_cycle.next_end(subscription)
    cancel_at = subscription["cancel_at"]
    later = context.at_time(min(end, cancel_at or end))
    if cancel_at and cancel_at <= later.now:
        subscription_end.end_of_period(later, subscription["id"])
    else:
        subscription_cycle.renew(later, subscription["id"])
    return _new_one(context, subscription)


def _new_one(context: Context, before: Record) -> Record:
    id = context.get("subscription", before["id"])["latest_invoice"]
    if id == before["latest_invoice"]:
        raise _nothing(before["customer"])
    return context.get("invoice", id)


def _nothing(customer: str) -> StripeError:
    return StripeError(
        404,
        f"No upcoming invoices for customer: {customer}",
        code="invoice_upcoming_none",
    )
