"""Endpoints of billing portal sessions (docs: API reference, Portal Session)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing, rejected
from sandbox.stripe.api.params import Choice, Hash, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal import configurations
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.store.records import Record

URL = "/v1/billing_portal/sessions"
resource = Resource(page_urls.SESSION, indexes=("_token",))

LOCALES = (
    "auto bg cs da de el en en-AU en-CA en-GB en-IE en-IN en-NZ en-SG es es-419 et fi "
    "fil fr fr-CA hr hu id it ja ko lt lv ms mt nb nl pl pt pt-BR ro ru sk sl sv th tr "
    "vi zh zh-HK zh-TW"
)
AFTER_COMPLETION = Hash(
    {
        "hosted_confirmation": Hash({"custom_message": Text()}),
        "redirect": Hash({"return_url": Text()}, required=("return_url",)),
        "type": Choice(("hosted_confirmation", "portal_homepage", "redirect")),
    },
    required=("type",),
)
# The flows that the sandbox models.
FLOW = Hash(
    {
        "after_completion": AFTER_COMPLETION,
        "subscription_cancel": Hash(
            {"subscription": Text()}, required=("subscription",)
        ),
        "type": Choice(("payment_method_update", "subscription_cancel")),
    },
    required=("type",),
)
CREATE = Shape(
    {
        "configuration": Text(),
        "customer": Text(),
        "flow_data": FLOW,
        "locale": Choice(tuple(LOCALES.split())),
        "return_url": Text(),
    },
    required=("customer",),
)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a portal session for a customer. Raises a 400."""
    customer = context.get_referenced("customer", params["customer"], "customer")
    configuration = configurations.get_active(context, params.get("configuration"))
    flow = _flow(context, params, customer, configuration)
    token = context.ids.new("test", 40)
    session = {
        "id": context.ids.new("bps"),
        "object": page_urls.SESSION,
        "after_expiration": None,
        "configuration": configuration["id"],
        "created": context.now,
        "customer": customer["id"],
        "customer_account": None,
        "flow": flow,
        "livemode": False,
        "locale": params.get("locale"),
        "on_behalf_of": None,
        "return_url": params.get("return_url", configuration["default_return_url"]),
        "url": page_urls.session_url(context, token),
        "_token": token,
        "_used_at": None,
    }
    return context.insert(session, f"{page_urls.SESSION}.created")


def _flow(
    context: Context, params: Params, customer: Record, configuration: Record
) -> dict[str, Any] | None:
    if "flow_data" not in params:
        return None
    flow = params["flow_data"]
    if not configuration["features"][flow["type"]]["enabled"]:
        raise invalid(
            f"The flow `{flow['type']}` needs the feature of this name, which the "
            "portal configuration has disabled.",
            param="flow_data[type]",
        )
    cancel = None
    if flow["type"] == "subscription_cancel":
        id = _subscription_to_cancel(context, flow, customer)
        cancel = {"retention": None, "subscription": id}
    return {
        "after_completion": _after_completion(flow),
        "customer_update": None,
        "subscription_cancel": cancel,
        "subscription_pause": None,
        "subscription_update": None,
        "subscription_update_confirm": None,
        "type": flow["type"],
    }


def _subscription_to_cancel(context: Context, flow: Params, customer: Record) -> str:
    param = "flow_data[subscription_cancel][subscription]"
    if "subscription_cancel" not in flow:
        raise rejected(
            f"Missing required param: {param}.", param=param, code="parameter_missing"
        )
    id = flow["subscription_cancel"]["subscription"]
    subscription = context.get_referenced("subscription", id, param)
    if subscription["customer"] != customer["id"]:
        raise missing("subscription", id, param=param, status=400)
    if subscription["status"] in ENDED or subscription["cancel_at"]:
        raise invalid(
            "This subscription is already canceled or set to be.", param=param
        )
    return str(id)


def _after_completion(flow: Params) -> dict[str, Any]:
    completion = flow.get("after_completion", {"type": "portal_homepage"})
    type = completion["type"]
    if type == "redirect" and "redirect" not in completion:
        param = "flow_data[after_completion][redirect]"
        raise rejected(
            f"Missing required param: {param}.", param=param, code="parameter_missing"
        )
    message = completion.get("hosted_confirmation", {}).get("custom_message")
    return {
        "hosted_confirmation": {"custom_message": message}
        if type == "hosted_confirmation"
        else None,
        "redirect": completion["redirect"] if type == "redirect" else None,
        "type": type,
    }
