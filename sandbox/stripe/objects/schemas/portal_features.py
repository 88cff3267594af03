"""Features of a portal configuration (SDK type Configuration.Features)."""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Array, Boolean, Choice, Hash, Kind

ENABLED: dict[str, Kind] = {"enabled": Boolean()}
ALLOWED_UPDATES = Choice(("address", "email", "name", "phone", "shipping", "tax_id"))
PARAMS: dict[str, dict[str, Kind]] = {
    "customer_update": {"allowed_updates": Array(ALLOWED_UPDATES), **ENABLED},
    "invoice_history": ENABLED,
    "payment_method_update": ENABLED,
    # Stored only: the sandbox's portal does not cancel subscriptions.
    "subscription_cancel": ENABLED,
    "subscription_pause": ENABLED,
    "subscription_update": ENABLED,
}
CREATED = Hash({name: Hash(fields, ("enabled",)) for name, fields in PARAMS.items()})
UPDATED = Hash({name: Hash(fields) for name, fields in PARAMS.items()})
# Every feature is off by default.
FEATURES: dict[str, dict[str, Any]] = {
    "customer_update": {"allowed_updates": [], "enabled": False},
    "invoice_history": {"enabled": False},
    "payment_method_update": {"enabled": False, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {
            "enabled": False,
            "feedback_options": None,
            "options": [],
        },
        "enabled": False,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_pause": {
        "duration": {
            "interval_options": [{"interval": "month", "interval_count": 1}],
            "type": "interval_options",
        },
        "enabled": False,
    },
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": [],
        "enabled": False,
        "products": None,
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}


def check(features: Mapping[str, dict[str, Any]]) -> None:
    """Raise a 400 for inconsistent or unsupported settings.

    Source: SDK, billing_portal.Configuration.create. The error texts are assumed.
    """
    details = features["customer_update"]
    if details["enabled"] and not details["allowed_updates"]:
        raise invalid(
            "`allowed_updates` is required when `customer_update` is enabled.",
            param="features[customer_update][allowed_updates]",
        )
    for name in ("subscription_pause", "subscription_update"):
        if features[name]["enabled"]:
            raise invalid(
                "The sandbox does not model changes of subscriptions in the portal.",
                param=f"features[{name}][enabled]",
            )
