"""What people do on Stripe's own pages, and in its dashboard, as control actions.

JSON in and out.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sandbox.stripe.context import Context
from sandbox.stripe.objects import hosted, portal_configurations
from sandbox.stripe.objects.portal_features import UPDATED
from sandbox.stripe.protocol.errors import StripeError, invalid
from sandbox.stripe.protocol.http import Response, json_response
from sandbox.stripe.protocol.params import Shape

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

Answer = dict[str, Any]
Deed = Callable[[Context, Mapping[str, Any]], Answer]
ENDS = ("succeeded", "failed")
#: What the bodies of these requests may hold.
KEYS = ("card", "challenge", "features", "outcome")
FEATURES = Shape({"features": UPDATED})


def find(method: str, path: str) -> Deed | None:
    """Return what a person does with this request, or None."""
    for pattern, deed in DEEDS:
        match = pattern.fullmatch(path)
        if match and method == "POST":
            return _bind(deed, *match.groups())
    return None


def answer(app: "StripeApp", deed: Deed, body: Mapping[str, Any]) -> Response:
    """Let it happen, and answer with what came of it."""
    try:
        return json_response(200, app.transact(lambda context: deed(context, body)))
    except StripeError as error:
        return json_response(error.status, {"error": str(error)})


def _pay(context: Context, id: str, body: Mapping[str, Any]) -> Answer:
    challenge = _text(body, "challenge", ENDS) if "challenge" in body else None
    receipt = hosted.pay(context, id, _text(body, "card"), challenge=challenge)
    return _show(context, receipt)


def _authenticate(context: Context, id: str, body: Mapping[str, Any]) -> Answer:
    passed = _text(body, "outcome", ENDS) == "succeeded"
    return _show(context, hosted.authenticate(context, id, passed=passed))


def _add_card(context: Context, id: str, body: Mapping[str, Any]) -> Answer:
    method = hosted.add_card(context, id, _text(body, "card"))
    return {"payment_method": context.show(method)}


def _save_portal(context: Context, body: Mapping[str, Any]) -> Answer:
    """Save the default configuration; without features, the one it begins with."""
    features = FEATURES.read(_as_form(body)).get("features")
    return context.show(portal_configurations.save_default(context, features))


def _as_form(value: Any) -> Any:
    """Return JSON as a form says it, so that it is read and checked as one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        # An empty list has no other way to be said.
        return _as_form({str(at): item for at, item in enumerate(value)}) or ""
    if isinstance(value, Mapping):
        return {key: _as_form(item) for key, item in value.items()}
    return value


def _show(context: Context, receipt: hosted.PaymentResult) -> Answer:
    return {
        "invoice": context.show(receipt.invoice),
        "payment_intent": context.show(receipt.intent),
    }


def _text(body: Mapping[str, Any], name: str, words: tuple[str, ...] = ()) -> str:
    value = body.get(name)
    if not isinstance(value, str) or (words and value not in words):
        raise invalid(f"{name} is {' or '.join(words) or 'a text'}")
    return value


def _bind(deed: Callable[..., Answer], *ids: str) -> Deed:
    return lambda context, body: deed(context, *ids, body)


DEEDS = (
    (re.compile(r"customers/(\w+)/cards"), _add_card),
    (re.compile(r"invoices/(\w+)/pay"), _pay),
    (re.compile(r"portal"), _save_portal),
    (re.compile(r"payment_intents/(\w+)/authenticate"), _authenticate),
)
