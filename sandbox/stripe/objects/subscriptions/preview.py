"""Preview of a subscription's next invoice (docs: API reference, Create preview).

Made by the change itself, with the invoice that follows it, in a unit of work that is
then discarded. Ids with `upcoming_in`: https://github.com/adrienverge/localstripe/pull/249
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.params import Array, Boolean, Choice, Hash, Integer, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import (
    cancel,
    changes,
    prorations,
    renewal,
    subscriptions,
)
from sandbox.stripe.store.records import Record

DETAILS = Hash(
    {
        "billing_mode": Hash({"type": Choice(("flexible",))}),
        "cancel_now": Boolean(),
        "default_tax_rates": tax_rates.TAX_RATES,
        "items": Array(changes.ITEM_CHANGE),
        "proration_behavior": Choice(("create_prorations", "none")),
        "proration_date": Integer(0),
    }
)
PREVIEW = Shape(
    {
        "customer": Text(),
        "discounts": discounts.DISCOUNTS,
        "subscription": Text(),
        "subscription_details": DETAILS,
    }
)
#: Without objects of its own: a preview is an invoice that is not stored.
resource = Resource("invoice_preview")
_UPDATED = ("default_tax_rates", "items", "proration_behavior")


@resource.post("/v1/invoices/create_preview", PREVIEW)
def create_preview(context: Context, params: Params) -> Record:
    """Return the next invoice after creating, changing or cancelling a subscription.

    Raises a 400, or a 404 if there would be none.
    """
    details = params.get("subscription_details", {})
    with context.preview() as scratch:
        if "subscription" not in params:
            invoice = _first_invoice(scratch, params, details)
        elif details.get("cancel_now"):
            invoice = _final_invoice(scratch, params["subscription"], details)
        else:
            invoice = _next_invoice(scratch, params["subscription"], details)
    # Lines of a preview cannot be listed by their ids:
    # https://github.com/stripe/stripe-node/issues/2518
    lines = [{**line, "id": f"il_tmp_{line['id'][3:]}"} for line in invoice["_lines"]]
    return {**invoice, "id": f"upcoming_{invoice['id']}", "_lines": lines}


def _first_invoice(context: Context, params: Params, details: Params) -> Record:
    """Return the first invoice of a new subscription.

    Source for the customer: docs.stripe.com/changelog/basil/2025-03-31, "Invoice
    preview API deprecations" ("along with the `customer` parameter").
    """
    if "customer" not in params or not details.get("items"):
        raise invalid(
            "You must pass `customer` and `subscription_details.items`.",
            param="customer",
            code="parameter_missing",
        )
    new: dict[str, Any] = {
        "customer": params["customer"],
        "items": details["items"],
        # A draft, which nobody tries to charge.
        "collection_method": "send_invoice",
        "days_until_due": 0,
    }
    names = {"discounts": params, "default_tax_rates": details}
    new |= {name: given[name] for name, given in names.items() if name in given}
    return _latest_invoice(context, subscriptions.create(context, new))


def _next_invoice(context: Context, id: str, details: Params) -> Record:
    """Return the invoice of the next renewal, with the prorations of a change."""
    subscription = _get(context, id)
    name = "subscription_details[proration_date]"
    at = prorations.date_of(context, subscription, details, name)
    changed = {name: details[name] for name in _UPDATED if name in details}
    if changed:
        subscription = subscriptions.update(context.at(at), changed, id)
    end = min(item["current_period_end"] for item in subscription["_items"])
    renewal.renew(context.at(end), id)
    return _latest_invoice(context, context.get("subscription", id))


def _final_invoice(context: Context, id: str, details: Params) -> Record:
    """Return the invoice of a cancellation now."""
    before = _get(context, id)["latest_invoice"]
    prorate = details.get("proration_behavior") != "none"
    ended = cancel.cancel(context, id, prorate=prorate, invoice_now=True)
    if ended["latest_invoice"] == before:
        raise _no_invoice()
    return _latest_invoice(context, ended)


def _get(context: Context, id: str) -> Record:
    subscription = context.get_referenced("subscription", id, "subscription")
    if subscription["status"] in ENDED:
        raise _no_invoice()
    return subscription


def _latest_invoice(context: Context, subscription: Record) -> Record:
    return context.get("invoice", subscription["latest_invoice"])


def _no_invoice() -> StripeError:
    message = "No upcoming invoices for customer."
    return StripeError(404, message, code="invoice_upcoming_none")
