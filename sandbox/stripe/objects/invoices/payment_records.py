"""Invoice payments: the link between an invoice and what paid it.

Source: SDK docstrings of InvoicePayment; changelog 2025-03-31.basil.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import list_object, page
from sandbox.stripe.api.params import Choice, Hash, Text, listing
from sandbox.stripe.api.routing import Params, Resource, public
from sandbox.stripe.objects.payments import external_payments, payment_intents
from sandbox.stripe.store.records import Record, Store

KIND = "invoice_payment"
URL = "/v1/invoice_payments"


def _render(store: Store, record: Record) -> dict[str, Any]:
    rendered = public(store, record)
    intent = store.get("payment_intent", record["payment"].get("payment_intent", ""))
    # Until it is closed, it requests what remains of the invoice.
    if record["status"] == "open" and intent:
        rendered["amount_requested"] = payment_intents.current_amount(store, intent)
    return rendered


resource = Resource(KIND, indexes=("invoice", "status"), render=_render)
resource.retrievable(URL)
PAYMENT = Hash(
    {
        "payment_intent": Text(),
        "payment_record": Text(),
        "type": Choice(("payment_intent", "payment_record")),
    },
    required=("type",),
)
STATUS = Choice(("canceled", "open", "paid"))


@resource.get(URL, listing(invoice=Text(), payment=PAYMENT, status=STATUS))
def list_(context: Context, params: Params) -> Record:
    """Return the payments of invoices, newest first."""
    payment = params.get("payment", {})
    return page(
        context.store,
        KIND,
        URL,
        params,
        filters={name: params.get(name) for name in ("invoice", "status")},
        where=lambda record: payment.items() <= record["payment"].items(),
    )


def create_default(context: Context, invoice: Record) -> Record:
    """Create the default payment of an invoice, and its intent."""
    intent = payment_intents.create(context, invoice)
    return context.insert(
        {
            **context.new(KIND, "inpay"),
            "amount_paid": None,
            "amount_requested": intent["amount"],
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )


def get_intent_id(context: Context, invoice: Record) -> str:
    """Return the id of the payment intent of a finalized invoice.

    Creates the default payment if the invoice has none.
    """
    payment = find_default(context.store, invoice["id"])
    payment = payment or create_default(context, invoice)
    return str(payment["payment"]["payment_intent"])


def add_external(context: Context, invoice: Record, amount: int) -> None:
    """List a payment out of band, with a payment record.

    Source: API reference, "Attach a payment to an Invoice": a PaymentIntent or an out
    of band payment is added to the list. Others only saw the canceled default payment.
    """
    record = external_payments.create(context, invoice, amount)
    payment = {
        **context.new(KIND, "inpay"),
        "amount_paid": amount,
        "amount_requested": amount,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": False,
        "payment": {"payment_record": record["id"], "type": "payment_record"},
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": context.now},
    }
    context.insert(payment, "invoice_payment.paid")


def check_not_processing(context: Context, invoice: str) -> None:
    """Raise a 400 while a bank debit for the invoice is being processed.

    Assumed for all that would change what the debit pays: docs page "How PaymentIntents
    work" only says that such an intent cannot be confirmed, and hardly ever canceled.
    """
    if is_processing(context, invoice):
        raise invalid(
            "The payment of this invoice is still processing.",
            code="payment_intent_unexpected_state",
        )


def is_processing(context: Context, invoice: str) -> bool:
    """Return whether a bank debit for the invoice is being processed."""
    payment = find_default(context.store, invoice)
    id = payment["payment"]["payment_intent"] if payment else ""
    intent = context.store.get("payment_intent", id)
    return intent is not None and intent["status"] == "processing"


def find_default(store: Store, invoice: str) -> Record | None:
    """Return the default payment of an invoice, or None (drafts, nothing due)."""
    payments = store.scan(KIND, index=("invoice", invoice))
    return next((payment for payment in payments if payment["is_default"]), None)


def find_charge(store: Store, invoice: str) -> Record | None:
    """Return the last charge of the default payment of an invoice, or None."""
    payment = find_default(store, invoice)
    id = payment["payment"]["payment_intent"] if payment else ""
    intent = store.get("payment_intent", id) or {}
    return store.get("charge", intent.get("latest_charge") or "")


def close_default(context: Context, invoice: str) -> None:
    """Close the default payment of a paid invoice, as paid or canceled.

    An intent that has not succeeded is canceled, so it cannot be charged later
    (assumed: the docs page on partial payments only covers voided invoices).
    """
    payment = find_default(context.store, invoice)
    if payment is None or payment["status"] != "open":
        return
    intent = context.get("payment_intent", payment["payment"]["payment_intent"])
    if intent["status"] != "succeeded":
        cancel(context, invoice, None)
        return
    with context.update(KIND, payment["id"]) as draft:
        draft.update(
            amount_paid=intent["amount_received"],
            amount_requested=intent["amount"],
            status="paid",
        )
        draft["status_transitions"]["paid_at"] = context.now
    context.emit("invoice_payment.paid", draft)


def cancel(context: Context, invoice: str, reason: str | None) -> None:
    """Cancel the open default payment of an invoice, and its intent."""
    payment = find_default(context.store, invoice)
    if payment is None or payment["status"] != "open":
        return
    intent = payment["payment"]["payment_intent"]
    payment_intents.cancel(context, intent, reason)
    with context.update(KIND, payment["id"]) as draft:
        draft["amount_requested"] = context.get("payment_intent", intent)["amount"]
        draft["status"] = "canceled"
        draft["status_transitions"]["canceled_at"] = context.now


def render_payments(store: Store, record: Record) -> dict[str, Any]:
    """Return an invoice's `payments`, included only when expanded."""
    payments = store.scan(KIND, index=("invoice", record["id"]))
    return list_object(
        [_render(store, payment) for payment in payments],
        f"{URL}?invoice={record['id']}",
    )
