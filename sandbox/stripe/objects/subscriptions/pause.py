"""Pause of a subscription: neither service nor invoices, unlike `pause_collection`.

Sources: docs page "Pause subscriptions"; SDK, SubscriptionPauseParams. No metered
prices here, so there is no usage to bill. Assumed: time that is not credited is lost.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Choice, Hash, Shape
from sandbox.stripe.api.routing import Params
from sandbox.stripe.objects.invoices.collection import UPDATED
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import billing, prorations
from sandbox.stripe.store.records import Record


def _type(*words: str) -> Hash:
    return Hash({"type": Choice(words)}, required=("type",))


PARAMS = Shape(
    {
        "bill_for": Hash(
            {
                "outstanding_usage_through": _type("none", "now"),
                "unused_time_from": _type("item_current_period_start", "none", "now"),
            }
        ),
        "invoicing_behavior": Choice(("invoice", "pending_invoice_item")),
        "type": Choice(("subscription",)),
    }
)


def pause(context: Context, id: str, params: Params) -> Record:
    """Pause a subscription now, by default crediting its unused time. Raises a 400."""
    subscription = context.get("subscription", id)
    _check_pausable(subscription)
    since = params.get("bill_for", {}).get("unused_time_from", {}).get("type", "now")
    for item in subscription["_items"] if since != "none" else ():
        start = item["current_period_start"] if since != "now" else context.now
        prorations.create_credits(context, subscription, item, since=start)
    with context.update("subscription", id, UPDATED) as draft:
        for item in draft["_items"]:
            item.update(current_period_end=context.now, _debits=[])
        draft.update(status="paused", status_details=_details(context))
    context.emit("customer.subscription.paused", draft)
    if params.get("invoicing_behavior") == "invoice":
        billing.bill_pending(context, id)
    return context.get("subscription", id)


def _details(context: Context) -> Record:
    return {
        "paused": {
            "subscription": {"type": "pause_requested"},
            "transitioned_at": context.now,
            "type": "subscription",
        }
    }


def _check_pausable(subscription: Record) -> None:
    status = subscription["status"]
    if status in {*ENDED, "incomplete", "paused"}:
        raise invalid(f"A subscription with status `{status}` cannot be paused.")
    if subscription["collection_method"] == "send_invoice":
        raise invalid(
            "A subscription with `collection_method=send_invoice` cannot be paused."
        )
