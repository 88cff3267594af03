"""Features of a portal configuration (SDK type Configuration.Features)."""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.params import Array, Boolean, Choice, Hash, Kind, Text

REASONS = (
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
)
PRORATION = Choice(("always_invoice", "create_prorations", "none"))
PARAMS: dict[str, dict[str, Kind]] = {
    "customer_update": {
        "allowed_updates": Array(
            Choice(("address", "email", "name", "phone", "shipping", "tax_id"))
        ),
        "enabled": Boolean(),
    },
    "invoice_history": {"enabled": Boolean()},
    "payment_method_update": {"enabled": Boolean()},
    "subscription_cancel": {
        "cancellation_reason": Hash(
            {"enabled": Boolean(), "options": Array(Choice(REASONS))},
            required=("enabled",),
        ),
        "enabled": Boolean(),
        "mode": Choice(("at_period_end", "immediately")),
        "proration_behavior": PRORATION,
    },
    "subscription_pause": {"enabled": Boolean()},
    "subscription_update": {
        "default_allowed_updates": Array(
            Choice(("price", "promotion_code", "quantity"))
        ),
        "enabled": Boolean(),
        "products": Array(
            Hash(
                {"prices": Array(Text()), "product": Text()},
                required=("prices", "product"),
            ),
            maximum=10,
        ),
        "proration_behavior": PRORATION,
    },
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
    """Raise a 400 for inconsistent settings; fill in missing fields of the others.

    Source: SDK, billing_portal.Configuration.create. The error texts are assumed.
    """
    _check_cancel(features["subscription_cancel"])
    _check_update(features["subscription_update"])
    details = features["customer_update"]
    if details["enabled"] and not details["allowed_updates"]:
        raise _incomplete("customer_update", "allowed_updates")
    if features["subscription_pause"]["enabled"]:
        raise invalid(
            "The sandbox does not model pausing subscriptions.",
            param="features[subscription_pause][enabled]",
        )


def _check_cancel(cancel: dict[str, Any]) -> None:
    reason = cancel["cancellation_reason"]
    cancel["cancellation_reason"] = {
        **FEATURES["subscription_cancel"]["cancellation_reason"],
        **reason,
    }
    prorated = cancel["proration_behavior"] != "none"
    if cancel["proration_behavior"] == "always_invoice" or (
        prorated and cancel["mode"] == "at_period_end"
    ):
        raise invalid(
            "`proration_behavior` is `none`, or with `mode=immediately` "
            "`create_prorations`.",
            param="features[subscription_cancel][proration_behavior]",
        )


def _check_update(update: dict[str, Any]) -> None:
    for field in ("default_allowed_updates", "products"):
        if update["enabled"] and not update[field]:
            raise _incomplete("subscription_update", field)
    # Returned by Stripe, but not among the parameters that the sandbox accepts.
    quantity = {"enabled": False, "maximum": None, "minimum": 0}
    update["products"] = update["products"] and [
        {"adjustable_quantity": quantity, **product} for product in update["products"]
    ]


def _incomplete(feature: str, field: str) -> StripeError:
    return invalid(
        f"`{field}` is required when `{feature}` is enabled.",
        param=f"features[{feature}][{field}]",
    )
