"""Early fraud warnings (SDK type radar.EarlyFraudWarning).

Source: docs page "How disputes work", early fraud warnings. Only the card network
issues one.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import Range, Text, listing
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.store.records import Record

KIND = "radar.early_fraud_warning"
URL = "/v1/radar/early_fraud_warnings"
FRAUD_TYPES = (
    "card_never_received",
    "fraudulent_card_application",
    "made_with_counterfeit_card",
    "made_with_lost_card",
    "made_with_stolen_card",
    "misc",
    "unauthorized_use_of_card",
)
resource = Resource(KIND, indexes=("charge", "payment_intent"))
resource.retrievable(URL)


@resource.get(URL, listing(charge=Text(), created=Range(), payment_intent=Text()))
def list_(context: Context, params: Params) -> Record:
    """Return the early fraud warnings, newest first."""
    filters = {name: params.get(name) for name in ("charge", "payment_intent")}
    return page(context.store, KIND, URL, params, filters=filters)


def issue(context: Context, charge: Record, fraud_type: str = "misc") -> Record:
    """Store the issuer's warning about a charge."""
    warning = {
        **context.new(KIND, "issfr"),
        "actionable": _is_actionable(charge),
        "charge": charge["id"],
        "fraud_type": fraud_type,
        "payment_intent": charge["payment_intent"],
    }
    return context.insert(warning, f"{KIND}.created")


def refresh(context: Context, charge: Record) -> None:
    """Update the warnings of a charge that was refunded or disputed."""
    for warning in context.store.scan(KIND, index=("charge", charge["id"])):
        actionable = _is_actionable(charge)
        context.change(KIND, warning["id"], f"{KIND}.updated", actionable=actionable)


def _is_actionable(charge: Record) -> bool:
    """Return whether the charge is neither disputed nor fully refunded."""
    return not (charge["disputed"] or charge["refunded"])
