"""Endpoints of subscriptions (docs: API reference, Subscriptions)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
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
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.fields import (
    COLLECTION_METHOD,
    CURRENCY,
    PAYMENT_SETTINGS,
    copy_params,
    merge_metadata,
)
from sandbox.stripe.objects.invoices import collection, lifecycle
from sandbox.stripe.objects.invoices.invoices import require_email
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.schemas import subscription as subscription_shape
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import (
    cancel as subscription_end,
)
from sandbox.stripe.objects.subscriptions import (
    changes,
    renewal,
    scheduled_cancellation,
)
from sandbox.stripe.store.records import Record

URL = "/v1/subscriptions"
OBJECT_URL = f"{URL}/{{id}}"
resource = Resource(
    "subscription",
    indexes=("customer", "status"),
    render=subscription_shape.render,
    timer=renewal.TIMER,
)

CANCELLATION_DETAILS = Hash(
    {
        "comment": Text(unset=True),
        "feedback": Choice(
            (
                "customer_service",
                "low_quality",
                "missing_features",
                "other",
                "switched_service",
                "too_complex",
                "too_expensive",
                "unused",
            ),
            unset=True,
        ),
    }
)
FIELDS: dict[str, Kind] = {
    **scheduled_cancellation.FIELDS,
    "collection_method": COLLECTION_METHOD,
    "days_until_due": Integer(0),
    "default_payment_method": Text(unset=True),
    "description": Text(unset=True, max_length=500),
    "metadata": Metadata(),
    "off_session": Boolean(),
    "payment_behavior": Choice(
        (
            "allow_incomplete",
            "default_incomplete",
            "error_if_incomplete",
            "pending_if_incomplete",
        )
    ),
    "payment_settings": PAYMENT_SETTINGS,
    "proration_behavior": changes.PRORATION_BEHAVIOR,
}
CREATE = Shape(
    {
        **FIELDS,
        "billing_mode": Hash(
            {"type": Choice(("classic", "flexible"))}, required=("type",)
        ),
        "currency": CURRENCY,
        "customer": Text(),
        "items": Array(changes.ITEM),
    },
    required=("customer", "items"),
)
UPDATE = Shape(
    {
        **FIELDS,
        "cancellation_details": CANCELLATION_DETAILS,
        "items": Array(changes.ITEM_CHANGE),
        "proration_date": Integer(0),
    }
)
STATUSES = (
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
)
# Stripe also accepts `default_source`, which the sandbox does not model.
# `proration_behavior` has no effect without other changes.
EDITABLE_WHEN_INCOMPLETE = frozenset({"expand", "metadata", "proration_behavior"})
EDITABLE_WHEN_ENDED = frozenset({"cancellation_details", "expand", "metadata"})


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Start a subscription and bill its first period. Raises a 400."""
    customer = context.get_referenced("customer", params["customer"], "customer")
    if params.get("payment_behavior") == "pending_if_incomplete":
        raise invalid(
            "`pending_if_incomplete` is only used with updates and cannot be passed "
            "when creating a subscription.",
            param="payment_behavior",
        )
    subscription = _new_subscription(context, params, customer)
    _check_collection(subscription, customer)
    balance_transactions.set_currency(context, customer, subscription["currency"])
    changes.apply(context, subscription, params["items"])
    scheduled_cancellation.schedule(context, subscription, params)
    renewal.start(
        context,
        subscription,
        behavior=params.get("payment_behavior", "allow_incomplete"),
        off_session=params.get("off_session", False),
    )
    return context.insert(subscription, "customer.subscription.created")


@resource.get(
    URL,
    listing(
        collection_method=COLLECTION_METHOD,
        created=Range(),
        customer=Text(),
        price=Text(),
        status=Choice(STATUSES),
    ),
)
def list_(context: Context, params: Params) -> Record:
    """Return subscriptions, newest first; without `status`, those that have not ended.

    The status `ended` means canceled or expired; `all` includes every status.
    """
    customer, status = params.get("customer"), params.get("status")
    index: tuple[str, str] | None
    if customer:
        index = ("customer", customer)
    else:
        single = status not in (None, "all", "ended")
        index = ("status", params["status"]) if single else None
    return page(
        context.store,
        "subscription",
        URL,
        params,
        index=index,
        where=lambda record: _matches(record, params),
    )


@resource.get(OBJECT_URL, Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a subscription, also an ended one. Raises a 404."""
    return context.get("subscription", id)


@resource.post(OBJECT_URL, UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Update a subscription and its items. Raises a 400 or a 404."""
    subscription = context.get("subscription", id)
    if subscription["status"] in ENDED and set(params) - EDITABLE_WHEN_ENDED:
        raise invalid(
            "A canceled subscription can only update its cancellation_details and "
            "metadata."
        )
    _check_incomplete(subscription, params)
    _check_payment_behavior(subscription, params)
    behavior = params.get("proration_behavior", "create_prorations")
    prorate_at = _proration_date(context, subscription, params)
    with context.update("subscription", id, renewal.UPDATED) as draft:
        _assign(context, draft, params)
        if "collection_method" in params or "days_until_due" in params:
            _check_collection(draft, context.get("customer", draft["customer"]))
        changes.apply(
            context,
            draft,
            params.get("items", []),
            prorate_at=None if behavior == "none" else prorate_at,
        )
        # Before `schedule`: a `cancel_at` in the same request takes precedence.
        scheduled_cancellation.refresh_period_end(draft)
        scheduled_cancellation.schedule(context, draft, params)
    if behavior == "always_invoice":
        _invoice_now(context, context.get("subscription", id), params)
    return context.get("subscription", id)


@resource.delete(
    OBJECT_URL,
    Shape(
        {
            "cancellation_details": CANCELLATION_DETAILS,
            "invoice_now": Boolean(),
            "prorate": Boolean(),
        }
    ),
)
def cancel(context: Context, params: Params, id: str) -> Record:
    """Cancel immediately. Raises a 404, also if it has already ended."""
    return subscription_end.cancel(
        context,
        id,
        prorate=params.get("prorate", False),
        invoice_now=params.get("invoice_now", False),
        details=params.get("cancellation_details"),
    )


def _new_subscription(
    context: Context, params: Params, customer: Record
) -> dict[str, Any]:
    if not params["items"] or "price" not in params["items"][0]:
        raise invalid(
            "You must pass one of plan, price, or price_data."
            if params["items"]
            else "Missing required param: items.",
            param="items",
            code="parameter_missing",
        )
    price = changes.get_usable_price(
        context, params["items"][0]["price"], "items[0][price]", params.get("currency")
    )
    subscription = subscription_shape.new_subscription(
        context, customer["id"], price["currency"]
    )
    if params.get("billing_mode", {}).get("type") == "classic":
        subscription["billing_mode"].update(type="classic", flexible=None)
    _assign(context, subscription, params)
    return subscription


def _assign(context: Context, draft: dict[str, Any], params: Params) -> None:
    copy_params(
        draft,
        params,
        "collection_method",
        "days_until_due",
        "default_payment_method",
        "description",
    )
    name = "default_payment_method"
    payment_methods.require_attached(context, params.get(name), draft["customer"], name)
    if draft["collection_method"] == "charge_automatically":
        draft["days_until_due"] = None
    if "metadata" in params:
        draft["metadata"] = merge_metadata(draft["metadata"], params["metadata"])
    draft["payment_settings"].update(params.get("payment_settings", {}))
    draft["cancellation_details"].update(params.get("cancellation_details", {}))


def _check_incomplete(subscription: Record, params: Params) -> None:
    """Raise a 400 for a change not allowed before the first invoice is paid.

    Source: SDK, docstring of Subscription.status. The error text is assumed.
    """
    if subscription["status"] != "incomplete":
        return
    if set(params) - EDITABLE_WHEN_INCOMPLETE:
        raise invalid(
            "A subscription in the status `incomplete` can only have its metadata and "
            "default_source updated."
        )


def _check_payment_behavior(subscription: Record, params: Params) -> None:
    """Raise a 400 for an update whose payment would stay pending (not modelled)."""
    behavior = params.get("payment_behavior")
    bills_now = params.get("proration_behavior") == "always_invoice"
    method = params.get("collection_method", subscription["collection_method"])
    stays_pending = behavior in ("default_incomplete", "pending_if_incomplete")
    if stays_pending and bills_now and method == "charge_automatically":
        raise invalid(
            f"The sandbox does not model `{behavior}` for an update billed now.",
            param="payment_behavior",
        )


def _check_collection(subscription: Record, customer: Record) -> None:
    if subscription["collection_method"] != "send_invoice":
        return
    if subscription["days_until_due"] is None:
        raise invalid(
            "You must pass a `days_until_due` value when creating a subscription with "
            "`collection_method` set to `send_invoice`.",
            param="days_until_due",
        )
    require_email(customer, "send_invoice")


def _proration_date(context: Context, subscription: Record, params: Params) -> int:
    """Return the time to prorate from. Raises a 400 outside the current periods."""
    at: int = params.get("proration_date", context.now)
    if "proration_date" in params and not all(
        item["current_period_start"] <= at <= item["current_period_end"]
        for item in subscription["_items"]
    ):
        raise invalid(
            "Invalid proration_date: it must be within the current billing period.",
            param="proration_date",
        )
    return at


def _invoice_now(context: Context, subscription: Record, params: Params) -> None:
    invoice = lifecycle.bill_subscription(
        context,
        subscription,
        [],
        reason="subscription_update",
        period=Period(context.now, context.now),
    )
    if invoice:
        event = renewal.UPDATED
        with context.update("subscription", subscription["id"], event) as draft:
            draft["latest_invoice"] = invoice["id"]
        final = lifecycle.finalize(context, invoice["id"])
        automatic = collection.is_collected_automatically(final)
        unpaid = automatic and final["status"] == "open"
        if unpaid and params.get("payment_behavior") == "error_if_incomplete":
            # The error rolls the whole update back, prorations included.
            raise renewal.payment_failure(context, final["id"])


def _matches(record: Record, params: Params) -> bool:
    status = params.get("status")
    ended = record["status"] in ENDED
    status_matches = {None: not ended, "all": True, "ended": ended}.get(
        status, record["status"] == status
    )
    price = params.get("price")
    method = params.get("collection_method")
    return (
        status_matches
        and (price is None or any(item["price"] == price for item in record["_items"]))
        and (method is None or record["collection_method"] == method)
    )
