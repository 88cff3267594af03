"""Endpoints of billing portal sessions (docs: API reference, Portal Session)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, rejected
from sandbox.stripe.api.params import Choice, Hash, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.fields import nulls
from sandbox.stripe.objects.portal import configurations
from sandbox.stripe.store.records import Record

URL = "/v1/billing_portal/sessions"
resource = Resource(page_urls.SESSION, indexes=("_token",))

AFTER_COMPLETION = Hash(
    {
        "hosted_confirmation": Hash({"custom_message": Text()}),
        "redirect": Hash({"return_url": Text()}, required=("return_url",)),
        "type": Choice(("hosted_confirmation", "portal_homepage", "redirect")),
    },
    required=("type",),
)
# The only flow that the sandbox models.
FLOW = Hash(
    {"after_completion": AFTER_COMPLETION, "type": Choice(("payment_method_update",))},
    required=("type",),
)
NULL_FLOW_FIELDS = nulls(
    "customer_update subscription_cancel subscription_pause subscription_update "
    "subscription_update_confirm"
)
CREATE = Shape(
    {
        "configuration": Text(),
        "customer": Text(),
        "flow_data": FLOW,
        "return_url": Text(),
    },
    required=("customer",),
)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a portal session for a customer. Raises a 400."""
    customer = context.get_referenced("customer", params["customer"], "customer")
    configuration = configurations.get_active(context, params.get("configuration"))
    token = context.ids.new("test", 40)
    session = {
        **context.new(page_urls.SESSION, "bps"),
        **nulls("after_expiration customer_account locale on_behalf_of _used_at"),
        "configuration": configuration["id"],
        "customer": customer["id"],
        "flow": _flow(params, configuration),
        "return_url": params.get("return_url", configuration["default_return_url"]),
        "url": f"{context.public_url}{page_urls.SESSION_PATH}{token}",
        "_token": token,
    }
    return context.insert(session, f"{page_urls.SESSION}.created")


def _flow(params: Params, configuration: Record) -> dict[str, Any] | None:
    if "flow_data" not in params:
        return None
    flow = params["flow_data"]
    if not configuration["features"][flow["type"]]["enabled"]:
        raise invalid(
            f"The flow `{flow['type']}` needs the feature of this name, which the "
            "portal configuration has disabled.",
            param="flow_data[type]",
        )
    return {
        **NULL_FLOW_FIELDS,
        "after_completion": _after_completion(flow),
        "type": flow["type"],
    }


def _after_completion(flow: Params) -> dict[str, Any]:
    completion = flow.get("after_completion", {"type": "portal_homepage"})
    type = completion["type"]
    if type == "redirect" and "redirect" not in completion:
        param = "flow_data[after_completion][redirect]"
        raise rejected(
            f"Missing required param: {param}.", param=param, code="parameter_missing"
        )
    fields = dict.fromkeys(("hosted_confirmation", "redirect"))
    if type == "redirect":
        fields["redirect"] = completion["redirect"]
    elif type == "hosted_confirmation":
        message = completion.get(type, {}).get("custom_message")
        fields[type] = {"custom_message": message}
    return {**fields, "type": type}
