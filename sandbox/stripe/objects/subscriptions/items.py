"""Endpoints of subscription items (docs: API reference, Subscription Items)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import missing
from sandbox.stripe.api.pagination import slice_page
from sandbox.stripe.api.params import PAGING, Integer, Kind, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.schemas import subscription
from sandbox.stripe.objects.subscriptions import changes, subscriptions
from sandbox.stripe.store.records import Record

URL = "/v1/subscription_items"
KIND = "subscription_item"
resource = Resource(KIND, render=subscription.render_item)

BEHAVIOR: dict[str, Kind] = {
    "payment_behavior": subscriptions.FIELDS["payment_behavior"],
    "proration_behavior": changes.PRORATION_BEHAVIOR,
    "proration_date": Integer(0),
}
CHANGE: dict[str, Kind] = {**changes.NEW_ITEM, **BEHAVIOR}


@resource.post(URL, Shape({**CHANGE, "subscription": Text()}, ("subscription",)))
def create(context: Context, params: Params) -> Record:
    """Add an item to a subscription. Raises a 400."""
    owner = context.get_referenced(
        "subscription", params["subscription"], "subscription"
    )
    before = {item["id"] for item in owner["_items"]}
    after = _update(context, owner["id"], params, {})
    return next(item for item in after["_items"] if item["id"] not in before)


@resource.get(URL, Shape({**PAGING, "subscription": Text()}, ("subscription",)))
def list_(context: Context, params: Params) -> Record:
    """Return the items of a subscription, oldest first."""
    id = params["subscription"]
    owner = context.get_referenced("subscription", id, "subscription")
    return slice_page(owner["_items"], f"{URL}?subscription={id}", params)


@resource.get(f"{URL}/{{id}}", Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return an item. Raises a 404."""
    return _item(_owner(context, id), id)


@resource.post(f"{URL}/{{id}}", Shape(CHANGE))
def update(context: Context, params: Params, id: str) -> Record:
    """Update the price or quantity of an item. Raises a 400 or a 404."""
    owner = _owner(context, id)
    return _item(_update(context, owner["id"], params, {"id": id}), id)


@resource.delete(f"{URL}/{{id}}", Shape(BEHAVIOR))
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete an item, unless it is the last one. Raises a 400 or a 404."""
    owner = _owner(context, id)
    _update(context, owner["id"], params, {"deleted": True, "id": id})
    return {"id": id, "object": KIND, "deleted": True}


def _owner(context: Context, id: str) -> Record:
    pointer = context.store.get("_item", id)
    if pointer is None:
        raise missing(KIND, id)
    return context.get("subscription", pointer["subscription"])


def _item(owner: Record, id: str) -> Record:
    item = changes.find_item(owner, id)
    if item is None:
        raise missing(KIND, id)
    return item


def _update(
    context: Context, owner: str, params: Params, change: dict[str, Any]
) -> Record:
    """Update one item through the subscription's own endpoint."""
    item_params = {key: params[key] for key in changes.NEW_ITEM if key in params}
    behavior = {key: params[key] for key in BEHAVIOR if key in params}
    return subscriptions.update(
        context, {**behavior, "items": [{**item_params, **change}]}, owner
    )
