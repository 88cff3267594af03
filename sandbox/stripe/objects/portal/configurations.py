"""Endpoints of billing portal configurations.

Docs: API reference, Portal Configuration.
"""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Boolean, Hash, Kind, Metadata, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.fields import copy_params
from sandbox.stripe.objects.schemas import portal_features
from sandbox.stripe.store.records import Record

URL = "/v1/billing_portal/configurations"
OBJECT_URL = f"{URL}/{{id}}"
KIND = page_urls.CONFIGURATION
resource = Resource(KIND)
resource.listable(URL)
resource.retrievable(URL)

PROFILE = ("headline", "privacy_policy_url", "terms_of_service_url")
FIELDS: dict[str, Kind] = {
    "business_profile": Hash({name: Text(unset=True) for name in PROFILE}),
    "default_return_url": Text(unset=True),
    "login_page": Hash({"enabled": Boolean()}, required=("enabled",)),
    "metadata": Metadata(),
    "name": Text(unset=True),
}
# Features enabled in the dashboard's form by default (assumed).
DASHBOARD_FEATURES: dict[str, Any] = {
    "customer_update": {"allowed_updates": ["email", "tax_id"], "enabled": True},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
}


@resource.post(
    URL, Shape({**FIELDS, "features": portal_features.CREATED}, required=("features",))
)
def create(context: Context, params: Params) -> Record:
    """Create a configuration; sessions use it by its id. Raises a 400."""
    return _add(context, params)


@resource.post(
    OBJECT_URL,
    Shape({**FIELDS, "active": Boolean(), "features": portal_features.UPDATED}),
)
def update(context: Context, params: Params, id: str) -> Record:
    """Update a configuration, also for existing sessions. Raises a 400 or a 404."""
    if context.get(KIND, id)["is_default"] and params.get("active") is False:
        raise invalid(
            "You cannot deactivate the default configuration.", param="active"
        )
    with context.update(KIND, id, f"{KIND}.updated") as configuration:
        _assign(context, configuration, params)
        configuration["updated"] = context.now
    return configuration


def _add(context: Context, params: Params, *, is_default: bool = False) -> Record:
    configuration: dict[str, Any] = {
        **context.new(KIND, "bpc"),
        "active": True,
        "application": None,
        "business_profile": dict.fromkeys(PROFILE),
        "default_return_url": None,
        "features": clone(portal_features.FEATURES),
        "is_default": is_default,
        "login_page": {"enabled": False, "url": None},
        "metadata": {},
        "name": None,
        "updated": context.now,
    }
    _assign(context, configuration, params)
    return context.insert(configuration, f"{KIND}.created")


def save_default(context: Context, features: Mapping[str, Any] | None = None) -> Record:
    """Save the default configuration, as the dashboard's portal settings do.

    The API cannot create it. Without `features`, those preset in the dashboard are
    used: history, payment methods, details.
    """
    params = {"features": features if features is not None else DASHBOARD_FEATURES}
    default = _find_default(context)
    if default is None:
        return _add(context, params, is_default=True)
    return update(context, params, default["id"])


def _find_default(context: Context) -> Record | None:
    records = context.store.scan(KIND)
    return next((record for record in records if record["is_default"]), None)


def get_active(context: Context, id: str | None) -> Record:
    """Return the configuration for a new session. Raises a 400."""
    if id:
        record: Record | None = context.get_referenced(KIND, id, "configuration")
    else:
        record = _find_default(context)
    if record is None:
        raise invalid(
            "No configuration provided and your test mode default configuration has "
            "not been created. Provide a configuration or create your default by "
            "saving your customer portal settings in test mode at "
            "https://dashboard.stripe.com/test/settings/billing/portal."
        )
    if not record["active"]:
        raise invalid(
            "The configuration is inactive and can't be used to create sessions.",
            param="configuration",
        )
    return record


def _assign(context: Context, record: dict[str, Any], params: Params) -> None:
    copy_params(record, params, "active", "default_return_url", "metadata", "name")
    record["business_profile"].update(params.get("business_profile", {}))
    if "login_page" in params:
        enabled = params["login_page"]["enabled"]
        token = context.ids.new("test", 32)
        url = f"{context.public_url}{page_urls.LOGIN_PATH}{token}" if enabled else None
        record["login_page"] = {"enabled": enabled, "url": url}
    for name, settings in params.get("features", {}).items():
        record["features"][name].update(settings)
    # After merging: features that were not sent keep their settings.
    portal_features.check(record["features"])
