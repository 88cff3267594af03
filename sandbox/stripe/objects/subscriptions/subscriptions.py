"""Endpoints of subscriptions (docs: API reference, Subscriptions)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Array,
    Boolean,
    Choice,
    Hash,
    Integer,
    Kind,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.fields import COLLECTION_METHOD, copy_params
from sandbox.stripe.objects.invoices.collection import UPDATED
from sandbox.stripe.objects.invoices.invoices import require_email
from sandbox.stripe.objects.invoices.paused_collection import BEHAVIORS
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.schemas.subscription import ENDED, new_subscription, render
from sandbox.stripe.objects.subscriptions import (
    billing,
    changes,
    pause,
    prorations,
    renewal,
    resumption,
    scheduled_cancellation,
)
from sandbox.stripe.objects.subscriptions import cancel as subscription_end
from sandbox.stripe.store.records import Record

URL = "/v1/subscriptions"
OBJECT_URL = f"{URL}/{{id}}"
resource = Resource(
    "subscription", indexes=("customer", "status"), render=render, timer=renewal.TIMER
)

FIELDS: dict[str, Kind] = {
    **scheduled_cancellation.FIELDS,
    "collection_method": COLLECTION_METHOD,
    "days_until_due": Integer(0),
    "default_payment_method": Text(unset=True),
    "default_tax_rates": tax_rates.TAX_RATES,
    "discounts": discounts.DISCOUNTS,
    "metadata": Metadata(),
    "proration_behavior": Choice(("always_invoice", "create_prorations", "none")),
}
CREATE = Shape(
    {
        **FIELDS,
        "billing_mode": Hash({"type": Choice(("flexible",))}),
        "customer": Text(),
        "items": Array(changes.ITEM),
    },
    required=("customer", "items"),
)
PAUSE_COLLECTION = Hash(
    {"behavior": Choice(BEHAVIORS), "resumes_at": Integer(0)},
    required=("behavior",),
    unset=True,
)
UPDATE = Shape(
    {
        **FIELDS,
        "items": Array(changes.ITEM_CHANGE),
        "pause_collection": PAUSE_COLLECTION,
        "proration_date": Integer(0),
    }
)
CANCEL = Shape({"invoice_now": Boolean(), "prorate": Boolean()})
STATUSES = (
    "active all canceled ended incomplete incomplete_expired past_due paused trialing "
    "unpaid"
)
LIST = listing(created=Range(), customer=Text(), status=Choice(tuple(STATUSES.split())))
resource.retrievable(URL)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Start a subscription and bill its first period. Raises a 400."""
    customer = context.get_referenced("customer", params["customer"], "customer")
    items = params["items"]
    if not items:
        raise invalid(
            "Missing required param: items.", param="items", code="parameter_missing"
        )
    price = context.get_referenced("price", items[0]["price"], "items[0][price]")
    subscription = new_subscription(context, customer["id"], price["currency"])
    _assign(context, subscription, params)
    balance_transactions.set_currency(context, customer, price["currency"])
    changes.apply(context, subscription, items, prorate=False)
    scheduled_cancellation.schedule(context, subscription, params)
    renewal.start(context, subscription)
    return context.insert(subscription, "customer.subscription.created")


@resource.get(URL, LIST)
def list_(context: Context, params: Params) -> Record:
    """Return subscriptions, newest first; without `status`, those that have not ended.

    The status `ended` means canceled or expired; `all` includes every status.
    """
    status = params.get("status")
    is_group = status in (None, "all", "ended")

    def matches(record: Record) -> bool:
        has_ended = record["status"] in ENDED
        return not is_group or status == "all" or has_ended == (status == "ended")

    return page(
        context.store,
        "subscription",
        URL,
        params,
        filters={
            "customer": params.get("customer"),
            "status": None if is_group else status,
        },
        where=matches,
    )


@resource.post(OBJECT_URL, UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Update a subscription and its items. Raises a 400 or a 404."""
    _check_editable(context.get("subscription", id), params)
    behavior = params.get("proration_behavior", "create_prorations")
    with context.update("subscription", id, UPDATED) as draft:
        _assign(context, draft, params)
        _pause_collection(context, draft, params)
        changes.apply(
            context.at(prorations.date_of(context, draft, params, "proration_date")),
            draft,
            params.get("items", []),
            # A paused subscription has no period with time to prorate.
            prorate=behavior != "none" and draft["status"] != "paused",
        )
        scheduled_cancellation.schedule(context, draft, params)
    if behavior == "always_invoice":
        billing.bill_pending(context, id)
    return context.get("subscription", id)


@resource.delete(f"{OBJECT_URL}/discount", Shape())
def delete_discount(context: Context, params: Params, id: str) -> Record:
    """Remove the discounts of a subscription. Raises a 404 if it has none."""
    ids = discounts.live(context.store, context.get("subscription", id)["_discounts"])
    if not ids:
        raise missing("active discount for subscription", id)
    for discount in ids:
        ended = discounts.end_and_update_owner(context, discount)
    return discounts.deleted(ended)


@resource.delete(OBJECT_URL, CANCEL)
def cancel(context: Context, params: Params, id: str) -> Record:
    """Cancel immediately. Raises a 404, also if it has already ended."""
    return subscription_end.cancel(
        context,
        id,
        prorate=params.get("prorate", False),
        invoice_now=params.get("invoice_now", False),
    )


@resource.post(f"{OBJECT_URL}/pause", pause.PARAMS)
def pause_one(context: Context, params: Params, id: str) -> Record:
    """Pause service and invoices. Raises a 400 or a 404."""
    return pause.pause(context, id, params)


@resource.post(f"{OBJECT_URL}/resume", resumption.PARAMS)
def resume(context: Context, params: Params, id: str) -> Record:
    """Resume a paused subscription. Raises a 400 or a 404."""
    return resumption.resume(context, id, params)


def _pause_collection(context: Context, draft: dict[str, Any], params: Params) -> None:
    """Pause the collection of new invoices, or end the pause. Raises a 400."""
    if "pause_collection" not in params:
        return
    pause_collection = params["pause_collection"]
    draft["pause_collection"] = pause_collection and {
        "resumes_at": None,
        **pause_collection,
    }
    resumes_at = (draft["pause_collection"] or {}).get("resumes_at")
    if resumes_at is not None and resumes_at <= context.now:
        raise invalid(
            "`resumes_at` must be in the future.", param="pause_collection[resumes_at]"
        )


def _assign(context: Context, draft: dict[str, Any], params: Params) -> None:
    name = "default_payment_method"
    payment_methods.require_attached(context, params.get(name), draft["customer"], name)
    copy_params(draft, params, "collection_method", "days_until_due", "metadata", name)
    name = "default_tax_rates"
    if name in params:
        draft[f"_{name}"] = tax_rates.require_active(context, params[name], name)
    if "discounts" in params:
        discounts.redeem_for_subscription(context, draft, params["discounts"])
    if draft["collection_method"] == "charge_automatically":
        draft["days_until_due"] = None
    elif "collection_method" in params or "days_until_due" in params:
        _check_send_invoice(context, draft)


def _check_send_invoice(context: Context, draft: Record) -> None:
    if draft["days_until_due"] is None:
        raise invalid(
            "You must pass a `days_until_due` value when creating a subscription with "
            "`collection_method` set to `send_invoice`.",
            param="days_until_due",
        )
    require_email(context.get("customer", draft["customer"]), "send_invoice")


def _check_editable(subscription: Record, params: Params) -> None:
    """Raise a 400 for a change that the subscription's status does not allow.

    Source: SDK, docstring of Subscription.status. The text for `incomplete` is assumed.
    """
    changed = params.keys() - {"expand", "metadata"}
    if subscription["status"] in ENDED and changed:
        raise invalid(
            "A canceled subscription can only update its cancellation_details and "
            "metadata."
        )
    if resumption.is_pending(subscription) and "items" in changed:
        raise invalid("Pay or void the invoice of the resumption first.", param="items")
    # Without other changes `proration_behavior` has no effect.
    if subscription["status"] == "incomplete" and changed - {"proration_behavior"}:
        raise invalid(
            "A subscription in the status `incomplete` can only have its metadata and "
            "default_source updated."
        )
