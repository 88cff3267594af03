"""Events (docs: API reference, Events)."""

import json
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import Array, Boolean, Range, Shape, Text, listing
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.store.records import Record, Store

URL = "/v1/events"
# API reference: "Right now, access to events is guaranteed only for 30 days."
RETENTION = 30 * 86_400


def _render(store: Store, record: Record) -> dict[str, Any]:
    rendered = {key: value for key, value in record.items() if not key.startswith("_")}
    rendered["data"] = json.loads(record["_data"])
    return rendered


resource = Resource("event", indexes=("type",), render=_render)


@resource.get(
    URL,
    listing(
        created=Range(),
        delivery_success=Boolean(),
        type=Text(),
        types=Array(Text(), maximum=20),
    ),
)
def list_(context: Context, params: Params) -> Record:
    """Return the events of the last 30 days; `type` may end in `*`."""
    if "type" in params and "types" in params:
        raise invalid("You may only specify one of these parameters: type, types.")
    recent = {"gte": context.now - RETENTION}
    created = {**recent, **params.get("created", {})}
    created["gte"] = max(created["gte"], recent["gte"])
    type = params.get("type")
    return page(
        context.store,
        "event",
        URL,
        {**params, "created": created},
        index=("type", type) if type and "*" not in type else None,
        where=_filter(params),
    )


@resource.get(f"{URL}/{{id}}", Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return an event of the last 30 days. Raises a 404."""
    event = context.get("event", id)
    if event["created"] < context.now - RETENTION:
        raise missing("event", id)
    return event


def _filter(params: Params) -> Any:
    types = params.get("types") or ([params["type"]] if "type" in params else [])
    exact = {type for type in types if "*" not in type}
    prefixes = tuple(type.rstrip("*") for type in types if type.endswith("*"))
    success = params.get("delivery_success")

    def matches(event: Record) -> bool:
        type = event["type"]
        if types and type not in exact and not type.startswith(prefixes or ("\0",)):
            return False
        # Delivered: acknowledged by every endpoint.
        delivered = event["pending_webhooks"] == 0
        return success in (None, delivered)

    return matches
