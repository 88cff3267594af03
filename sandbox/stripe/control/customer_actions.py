"""Control actions for steps on Stripe's hosted pages and in its dashboard."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sandbox.common.http import Response, json_response
from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.params import Shape
from sandbox.stripe.objects.portal import configurations, hosted_actions
from sandbox.stripe.objects.schemas.portal_features import UPDATED

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

Result = dict[str, Any]
Action = Callable[[Context, Mapping[str, Any]], Result]
OUTCOMES = ("succeeded", "failed")
#: Fields that the bodies of these requests may have.
FIELDS = ("card", "challenge", "features", "outcome")
FEATURES = Shape({"features": UPDATED})


def match(method: str, path: str) -> Action | None:
    """Return the action of a request, or None."""
    for pattern, action in ACTIONS:
        path_match = pattern.fullmatch(path)
        if path_match and method == "POST":
            return _bind(action, *path_match.groups())
    return None


def execute(app: "StripeApp", action: Action, body: Mapping[str, Any]) -> Response:
    """Run the action and return its result as JSON."""
    try:
        return json_response(200, app.transact(lambda context: action(context, body)))
    except StripeError as error:
        return json_response(error.status, {"error": str(error)})


def _pay(context: Context, id: str, body: Mapping[str, Any]) -> Result:
    challenge = _text(body, "challenge", OUTCOMES) if "challenge" in body else None
    result = hosted_actions.pay(context, id, _text(body, "card"), challenge=challenge)
    return _serialize(context, result)


def _authenticate(context: Context, id: str, body: Mapping[str, Any]) -> Result:
    passed = _text(body, "outcome", OUTCOMES) == "succeeded"
    return _serialize(context, hosted_actions.authenticate(context, id, passed=passed))


def _add_card(context: Context, id: str, body: Mapping[str, Any]) -> Result:
    method = hosted_actions.add_card(context, id, _text(body, "card"))
    return {"payment_method": context.serialize(method)}


def _save_portal(context: Context, body: Mapping[str, Any]) -> Result:
    """Save the default configuration; without features, the initial one."""
    features = FEATURES.read(_as_form(body)).get("features")
    return context.serialize(configurations.save_default(context, features))


def _as_form(value: Any) -> Any:
    """Return JSON in the form encoding, so that it can be validated as parameters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        # The form encoding of an empty list is an empty string.
        return _as_form({str(index): item for index, item in enumerate(value)}) or ""
    if isinstance(value, Mapping):
        return {key: _as_form(item) for key, item in value.items()}
    return value


def _serialize(context: Context, result: hosted_actions.PaymentResult) -> Result:
    return {
        "invoice": context.serialize(result.invoice),
        "payment_intent": context.serialize(result.intent),
    }


def _text(body: Mapping[str, Any], name: str, choices: tuple[str, ...] = ()) -> str:
    value = body.get(name)
    if not isinstance(value, str) or (choices and value not in choices):
        raise invalid(f"{name} must be {' or '.join(choices) or 'a string'}")
    return value


def _bind(action: Callable[..., Result], *ids: str) -> Action:
    return lambda context, body: action(context, *ids, body)


ACTIONS = (
    (re.compile(r"customers/(\w+)/cards"), _add_card),
    (re.compile(r"invoices/(\w+)/pay"), _pay),
    (re.compile(r"portal"), _save_portal),
    (re.compile(r"payment_intents/(\w+)/authenticate"), _authenticate),
)
