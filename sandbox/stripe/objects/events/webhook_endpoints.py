"""Webhook endpoints (docs: API reference, Webhook Endpoints)."""

from typing import Any, get_args

from stripe.params import WebhookEndpointCreateParams

from sandbox.stripe import API_VERSION
from sandbox.stripe.api.context import DELIVERY, Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Array, Boolean, Choice, Kind, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.fields import copy_params
from sandbox.stripe.store.records import Record

URL = "/v1/webhook_endpoints"
OBJECT_URL = f"{URL}/{{id}}"
KIND = "webhook_endpoint"
resource = Resource(KIND)
resource.listable(URL)
# The SDK is generated from Stripe's OpenAPI specification: its list is complete.
(EVENT_TYPE,) = get_args(WebhookEndpointCreateParams.__annotations__["enabled_events"])
FIELDS: dict[str, Kind] = {
    "enabled_events": Array(Choice(get_args(EVENT_TYPE))),
    "url": Text(),
}
CREATE = Shape(
    # The sandbox renders events in this version only.
    {**FIELDS, "api_version": Choice((API_VERSION,))},
    required=("enabled_events", "url"),
)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Register an endpoint. Only this response includes its `secret`. Raises a 400."""
    _check_url(params["url"])
    endpoint = add(context, url=params["url"], events=params["enabled_events"])
    return {**endpoint, "secret": endpoint["_secret"]}


@resource.post(OBJECT_URL, Shape({**FIELDS, "disabled": Boolean()}))
def update(context: Context, params: Params, id: str) -> Record:
    """Update an endpoint. Raises a 400 or a 404."""
    if "url" in params:
        _check_url(params["url"])
    with context.update(KIND, id) as endpoint:
        copy_params(endpoint, params, "enabled_events", "url")
        if "disabled" in params:
            endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    return endpoint


@resource.delete(OBJECT_URL, Shape())
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete an endpoint and its pending deliveries. Raises a 404."""
    context.get(KIND, id)
    for delivery in context.store.scan(DELIVERY, index=("endpoint", id)):
        context.store.delete(DELIVERY, delivery["id"])
    context.store.delete(KIND, id)
    return {"id": id, "object": KIND, "deleted": True}


def register(
    context: Context, *, url: str, events: list[str], secret: str | None
) -> Record:
    """Create an endpoint, or update the one with this URL; return it."""
    # Called at each start: the endpoint may already be in the state file.
    for endpoint in context.store.scan(KIND):
        if endpoint["url"] == url:
            secret = secret or endpoint["_secret"]
            return context.change(
                KIND, endpoint["id"], _secret=secret, enabled_events=events
            )
    return add(context, url=url, events=events, secret=secret)


def add(
    context: Context, *, url: str, events: list[str], secret: str | None = None
) -> Record:
    """Store a new endpoint."""
    endpoint: dict[str, Any] = {
        **context.new(KIND, "we"),
        "api_version": API_VERSION,
        "application": None,
        "description": None,
        "enabled_events": events,
        "metadata": {},
        "status": "enabled",
        "url": url,
        "_secret": secret or context.ids.new("whsec", 32),
    }
    return context.insert(endpoint)


def _check_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise invalid("Not a valid URL", param="url", code="url_invalid")
