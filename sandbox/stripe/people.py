"""What people do on Stripe's own pages, as control actions: JSON in and out."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sandbox.stripe.context import Context
from sandbox.stripe.objects import hosted
from sandbox.stripe.protocol.errors import StripeError, invalid
from sandbox.stripe.protocol.http import Response, json_response

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

Answer = dict[str, Any]
Deed = Callable[[Context, Mapping[str, Any]], Answer]
ENDS = ("succeeded", "failed")
#: What the bodies of these requests may hold.
KEYS = ("card", "challenge", "outcome")


def find(method: str, path: str) -> Deed | None:
    """Return what a person does with this request, or None."""
    for pattern, deed in DEEDS:
        match = pattern.fullmatch(path)
        if match and method == "POST":
            return _bind(deed, match["id"])
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


def _show(context: Context, receipt: hosted.Receipt) -> Answer:
    return {
        "invoice": context.show(receipt.invoice),
        "payment_intent": context.show(receipt.intent),
    }


def _text(body: Mapping[str, Any], name: str, words: tuple[str, ...] = ()) -> str:
    value = body.get(name)
    if not isinstance(value, str) or (words and value not in words):
        raise invalid(f"{name} is {' or '.join(words) or 'a text'}")
    return value


def _bind(deed: Callable[[Context, str, Mapping[str, Any]], Answer], id: str) -> Deed:
    return lambda context, body: deed(context, id, body)


DEEDS = (
    (re.compile(r"customers/(?P<id>\w+)/cards"), _add_card),
    (re.compile(r"invoices/(?P<id>\w+)/pay"), _pay),
    (re.compile(r"payment_intents/(?P<id>\w+)/authenticate"), _authenticate),
)
