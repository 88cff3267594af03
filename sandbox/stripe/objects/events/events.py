"""Events (docs: API reference, Events)."""

import json
from fnmatch import fnmatchcase
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import Array, Boolean, Range, Shape, Text, listing
from sandbox.stripe.api.routing import Params, Resource, public
from sandbox.stripe.store.records import Record, Store

URL = "/v1/events"
# API reference: "Right now, access to events is guaranteed only for 30 days."
RETENTION = 30 * 86_400
# API reference: "An array of up to 20 strings".
MAX_TYPES = 20
LIST = listing(
    created=Range(), delivery_success=Boolean(), type=Text(), types=Array(Text())
)


def _render(store: Store, record: Record) -> dict[str, Any]:
    return {**public(store, record), "data": json.loads(record["_data"])}


resource = Resource("event", indexes=("type",), render=_render)


@resource.get(URL, LIST)
def list_(context: Context, params: Params) -> Record:
    """Return the events of the last 30 days; `type` may end in `*`."""
    if "type" in params and "types" in params:
        raise invalid("You may only specify one of these parameters: type, types.")
    if len(params.get("types", [])) > MAX_TYPES:
        raise invalid(f"At most {MAX_TYPES} types can be listed.", param="types")
    oldest = context.now - RETENTION
    created = params.get("created", {})
    created = {**created, "gte": max(created.get("gte", oldest), oldest)}
    type, success = params.get("type"), params.get("delivery_success")
    patterns = params.get("types") or [type or "*"]

    def matches(event: Record) -> bool:
        # Delivered: acknowledged by every endpoint.
        delivered = event["pending_webhooks"] == 0
        return success in (None, delivered) and any(
            fnmatchcase(event["type"], pattern) for pattern in patterns
        )

    return page(
        context.store,
        "event",
        URL,
        {**params, "created": created},
        filters={"type": type if type and "*" not in type else None},
        where=matches,
    )


@resource.get(f"{URL}/{{id}}", Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return an event of the last 30 days. Raises a 404."""
    event = context.get("event", id)
    if event["created"] < context.now - RETENTION:
        raise missing("event", id)
    return event
