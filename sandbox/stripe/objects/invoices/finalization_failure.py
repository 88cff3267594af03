"""Drafts that cannot be finalized.

Sources: SDK docstrings of Invoice.last_finalization_error and of the event; support
page "Manage draft subscription invoices with invalid tax location details": the invoice
stays a draft, and the subscription active. Assumed: Stripe does not try again.
"""

from collections.abc import Mapping

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.objects.payments.outcomes import metadata_sources
from sandbox.stripe.store.records import Record

#: Metadata key, of an invoice, its subscription or its customer: the error code.
KEY = "sandbox_finalization"
MESSAGES: Mapping[str, str] = {
    "customer_tax_location_invalid": (
        "The customer's location isn't recognized. Set a valid customer address in "
        "order to automatically calculate tax."
    ),
}


def record(context: Context, invoice: Record) -> bool:
    """Record the failure on the draft if its metadata has one; return whether."""
    sources = metadata_sources(context, invoice)
    code = next((found[KEY] for _, found in sources if KEY in found), None)
    if code is None:
        return False
    error = {
        "code": code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": MESSAGES.get(code, "This invoice cannot be finalized."),
        "type": "invalid_request_error",
    }
    changes = {"automatically_finalizes_at": None, "last_finalization_error": error}
    failed = context.change("invoice", invoice["id"], "invoice.updated", **changes)
    context.emit("invoice.finalization_failed", failed)
    return True


def error_of(draft: Record) -> StripeError:
    """Return the 400 for a draft whose finalization failed; the failure is stored."""
    error = draft["last_finalization_error"]
    return StripeError(400, error["message"], code=error["code"], committed=True)
