"""Invoice page for customers (docs page "Hosted Invoice Page"), and payment on it.

Assumed: the URL does not expire. Stripe's URL expires 30 days after the due date, but
retrieving the invoice over the API returns one that is valid for ten more days.
"""

from typing import Any

from sandbox.common.html.form import Form
from sandbox.common.http import Response
from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.invoices import payment_records
from sandbox.stripe.objects.invoices.pay import COLLECTIBLE
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.stripe.pages import price_labels
from sandbox.stripe.pages.hosted.rendering import not_found, render
from sandbox.stripe.store.records import Record

MAX_LINES = 100
OUTCOMES = ("succeeded", "failed")
PAID = "Your payment went through. Thank you."


def pay(context: Context, token: str, form: Form) -> str:
    """Pay with the card in the form. After a decline the page shows the error."""
    id, card = _find(context, token)["id"], form.get("card", "")
    return _done(hosted_actions.pay(context, id, card))


def authenticate(context: Context, token: str, form: Form) -> str:
    """Complete the 3D Secure challenge with the outcome in the form."""
    if form.get("outcome") not in OUTCOMES:
        raise invalid("The outcome must be succeeded or failed.")
    passed = form["outcome"] == "succeeded"
    intent_id = payment_records.get_intent_id(context, _find(context, token))
    return _done(hosted_actions.authenticate(context, intent_id, passed=passed))


ACTIONS = {"authenticate": authenticate, "pay": pay}


def page(context: Context, token: str, query: Form, error: str) -> Response:
    """Return the invoice page, or a 404 page for an unknown token."""
    invoice = page_urls.find_invoice(context.store, token)
    if invoice is None:
        return not_found("Invoice")
    just_paid = invoice["status"] == "paid" and query.get("done") == "pay"
    return render(
        "invoice",
        address=f"{page_urls.INVOICE_PATH}{token}",
        error=error,
        notice=PAID if just_paid else "",
        invoice=invoice,
        lines=invoice["_lines"][:MAX_LINES],
        price_sums=price_labels.between_subtotal_and_total(context.store, invoice),
        omitted_lines=len(invoice["_lines"][MAX_LINES:]),
        credit_notes=_credit_notes(context, invoice),
        now=context.now,
        **_payment(context, invoice),
    )


def _find(context: Context, token: str) -> Record:
    invoice = page_urls.find_invoice(context.store, token)
    if invoice is None:
        raise missing("invoice", token)
    return invoice


def _done(intent: Record) -> str:
    return "done=pay" if intent["status"] == "succeeded" else ""


def _payment(context: Context, invoice: Record) -> dict[str, Any]:
    """Return whether the invoice can be paid, and its last payment."""
    payment = payment_records.find_default(context.store, invoice["id"])
    id = payment["payment"]["payment_intent"] if payment else ""
    intent = context.store.get("payment_intent", id) or {}
    status = intent.get("status")
    is_payable = invoice["status"] in COLLECTIBLE and status != "processing"
    challenged_card = paid_card = charge = None
    if is_payable and status == "requires_action":
        method = context.get("payment_method", intent["payment_method"])
        challenged_card = method["card"]
    if status == "succeeded":
        charge = context.get("charge", intent["latest_charge"])
        paid_card = charge["payment_method_details"].get("card")
    return {
        "challenged_card": challenged_card,
        "given_back": charge["amount_refunded"] if charge else 0,
        "is_processing": status == "processing",
        "failure": intent.get("last_payment_error") if is_payable else None,
        "is_payable": is_payable,
        "paid_card": paid_card,
        "paid_debit": bool(charge) and paid_card is None,
    }


def _credit_notes(context: Context, invoice: Record) -> list[Record]:
    """Return the issued credit notes, oldest first."""
    index = ("invoice", invoice["id"])
    notes = context.store.scan("credit_note", index=index, newest_first=False)
    return [note for note in notes if note["status"] == "issued"]
