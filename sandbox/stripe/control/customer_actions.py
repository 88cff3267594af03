"""Commands for steps on Stripe's hosted pages and in its dashboard."""

from collections.abc import Mapping
from typing import Any

from sandbox.common.control import Command, Commands
from sandbox.common.fields import Fields
from sandbox.stripe.api.context import Context
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects.catalog import prices
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.portal import configurations, hosted_actions
from sandbox.stripe.objects.schemas.portal_features import UPDATED
from sandbox.stripe.store.records import Record

Result = dict[str, Any]
OUTCOMES = ("succeeded", "failed")


def pay(app: StripeApp, fields: Fields, invoice: str) -> Result:
    """Pay an invoice with a card; `challenge` is the outcome of a 3D Secure one."""
    card = fields.text("card")
    challenge = fields.optional(fields.choice, "challenge", OUTCOMES)
    return app.transact(
        lambda context: _serialize(
            context, hosted_actions.pay(context, invoice, card, challenge=challenge)
        )
    )


def authenticate(app: StripeApp, fields: Fields, intent: str) -> Result:
    """End the pending 3D Secure challenge of a PaymentIntent."""
    passed = fields.choice("outcome", OUTCOMES) == "succeeded"
    return app.transact(
        lambda context: _serialize(
            context, hosted_actions.authenticate(context, intent, passed=passed)
        )
    )


def add_card(app: StripeApp, fields: Fields, customer: str) -> Result:
    """Add a default card to a customer."""
    card = fields.text("card")
    method = app.transact(
        lambda context: context.serialize(
            hosted_actions.add_card(context, customer, card)
        )
    )
    return {"payment_method": method}


def set_discount(app: StripeApp, fields: Fields, customer: str) -> Result:
    """Put a coupon on a customer, instead of its discount if it has one."""
    coupon = fields.text("coupon")
    return app.transact(
        lambda context: context.serialize(
            discounts.set_on_customer(context, customer, coupon)
        )
    )


def list_emails(app: StripeApp, fields: Fields) -> Result:
    """Return the e-mails about credit notes that Stripe sends, newest first."""
    with app.lock:
        notes = list(app.store.scan("credit_note"))
        customers = {
            note["customer"]: app.store.get("customer", note["customer"]) or {}
            for note in notes
        }
    return {
        "data": [
            {"to": to, "type": note["_email_type"], "credit_note": note["id"]}
            for note in notes
            if (to := customers[note["customer"]].get("email"))
            and note["_email_type"] != "none"
        ]
    }


def delete_price(app: StripeApp, fields: Fields, price: str) -> Result:
    """Delete a price that was never used, as in the dashboard."""
    return app.transact(
        lambda context: context.serialize(prices.delete(context, price))
    )


def save_portal(app: StripeApp, fields: Fields) -> Result:
    """Save the default configuration; without features, the initial one."""
    given = fields.optional(fields.mapping, "features", {})
    features = None if given is None else UPDATED.read(_as_form(given), "features")
    return app.transact(
        lambda context: context.serialize(
            configurations.save_default(context, features)
        )
    )


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


def _serialize(context: Context, intent: Record) -> Result:
    invoice = context.get("invoice", intent["_invoice"])
    return {
        "invoice": context.serialize(invoice),
        "payment_intent": context.serialize(intent),
    }


COMMANDS: Commands = {
    ("GET", "emails"): Command(list_emails),
    ("POST", r"customers/(\w+)/cards"): Command(add_card, ("card",)),
    ("POST", r"customers/(\w+)/discount"): Command(set_discount, ("coupon",)),
    ("POST", r"invoices/(\w+)/pay"): Command(pay, ("card", "challenge")),
    ("POST", "portal"): Command(save_portal, ("features",)),
    ("DELETE", r"prices/(\w+)"): Command(delete_price),
    ("POST", r"payment_intents/(\w+)/authenticate"): Command(
        authenticate, ("outcome",)
    ),
}
