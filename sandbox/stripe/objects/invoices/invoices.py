"""Endpoints of invoices (docs: API reference, Invoices)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page, slice_page
from sandbox.stripe.api.params import (
    Boolean,
    Choice,
    Integer,
    Kind,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.clock.periods import DAY, Period
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.fields import (
    COLLECTION_METHOD,
    CURRENCY,
    INVOICE_PAYMENT_SETTINGS,
    copy_params,
    merge_metadata,
)
from sandbox.stripe.objects.invoices import (
    collection,
    finalization_delay,
    lifecycle,
    payment_records,
)
from sandbox.stripe.objects.invoices import (
    items as invoice_items,
)
from sandbox.stripe.objects.invoices import (
    pay as invoice_payment,
)
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.schemas import invoice as invoice_shape
from sandbox.stripe.store.records import Record

URL = "/v1/invoices"
OBJECT_URL = f"{URL}/{{id}}"
resource = Resource(
    "invoice",
    indexes=("customer", "_subscription", "_token", "status"),
    render=invoice_shape.render,
    includable={
        "amount_paid_off_stripe": invoice_shape.paid_off_stripe,
        "confirmation_secret": payment_records.confirmation_secret,
        "payments": payment_records.render_payments,
    },
)

FIELDS: dict[str, Kind] = {
    "auto_advance": Boolean(),
    "automatically_finalizes_at": Integer(0),
    "collection_method": COLLECTION_METHOD,
    "days_until_due": Integer(0),
    "default_payment_method": Text(unset=True),
    "description": Text(unset=True),
    "due_date": Integer(0),
    "footer": Text(unset=True),
    "metadata": Metadata(),
    "payment_settings": INVOICE_PAYMENT_SETTINGS,
    "statement_descriptor": Text(max_length=22),
}
EDITABLE_ALWAYS = frozenset(
    {"auto_advance", "default_payment_method", "expand", "metadata", "payment_settings"}
)
CREATE = Shape(
    {
        **FIELDS,
        "currency": CURRENCY,
        "customer": Text(),
        "pending_invoice_items_behavior": Choice(("exclude", "include")),
    },
    required=("customer",),
)
STATUSES = Choice(("draft", "open", "void", "paid", "uncollectible"))
MAX_FINALIZATION_DELAY = 5 * 366 * DAY
DUE_DATE_FIELDS = frozenset({"collection_method", "days_until_due", "due_date"})


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a one-off draft; `auto_advance` is off by default. Raises a 400."""
    customer = context.get_referenced("customer", params["customer"], "customer")
    method = params.get("collection_method", "charge_automatically")
    require_email(customer, method)
    _check_due_date(params, method, has_due_date=False)
    include = params.get("pending_invoice_items_behavior") == "include"
    items = (
        invoice_items.pending_without_subscription(context, customer["id"])
        if include
        else []
    )
    currency = params.get("currency") or customer["currency"] or "usd"
    balance_transactions.set_currency(context, customer, currency, "currency")
    invoice = invoice_shape.new_invoice(
        context,
        customer=customer,
        currency=currency,
        collection_method=method,
        reason="manual",
        period=Period(context.now, context.now),
        lines=[invoice_items.new_line_for(context, item) for item in items],
    )
    invoice["auto_advance"] = params.get("auto_advance", False)
    advance = invoice["auto_advance"]
    at = _finalization_time(context, params, auto_advance=advance)
    invoice["automatically_finalizes_at"] = at
    _require_attached(context, customer["id"], params)
    _assign(invoice, params)
    return lifecycle.add(context, invoice, items)


@resource.get(
    URL,
    listing(
        collection_method=COLLECTION_METHOD,
        created=Range(),
        customer=Text(),
        status=STATUSES,
        subscription=Text(),
    ),
)
def list_(context: Context, params: Params) -> Record:
    """Return invoices, newest first."""
    customer, subscription = params.get("customer"), params.get("subscription")
    index: tuple[str, str] | None
    if customer:
        index = ("customer", customer)
    elif subscription:
        index = ("_subscription", subscription)
    else:
        index = ("status", params["status"]) if "status" in params else None

    def matches(record: Record) -> bool:
        return (subscription is None or record["_subscription"] == subscription) and (
            all(
                record[name] == params[name]
                for name in ("collection_method", "status")
                if name in params
            )
        )

    return page(context.store, "invoice", URL, params, index=index, where=matches)


@resource.get(OBJECT_URL, Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return an invoice. Raises a 404."""
    return context.get("invoice", id)


@resource.get(f"{OBJECT_URL}/lines", listing())
def list_lines(context: Context, params: Params, id: str) -> Record:
    """Return all lines, in pages. The invoice object has only the first ten."""
    invoice = context.get("invoice", id)
    return slice_page(invoice["_lines"], f"{URL}/{id}/lines", params)


@resource.post(OBJECT_URL, Shape(FIELDS))
def update(context: Context, params: Params, id: str) -> Record:
    """Update an invoice; a finalized one only in the fields of `EDITABLE_ALWAYS`.

    Source: API reference, "Update an invoice": after finalization monetary values and
    the collection method are not editable. Assumed for texts and the due date too.
    """
    invoice = context.get("invoice", id)
    if invoice["status"] != "draft" and set(params) - EDITABLE_ALWAYS:
        raise invalid(
            "Finalized invoices can't be updated in this way",
            code="invoice_not_editable",
        )
    customer = context.store.get("customer", invoice["customer"]) or {}
    require_email(customer, params.get("collection_method", ""))
    if set(params) & DUE_DATE_FIELDS:
        method = params.get("collection_method", invoice["collection_method"])
        has_due_date = invoice["due_date"] is not None
        _check_due_date(params, method, has_due_date=has_due_date)
    _require_attached(context, invoice["customer"], params)
    with context.update("invoice", id, "invoice.updated") as draft:
        _assign(draft, params)
        _schedule(context, draft, params)
    return context.get("invoice", id)


@resource.delete(OBJECT_URL, Shape())
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete a one-off draft; its items become pending. Raises a 400 or a 404."""
    invoice = context.get("invoice", id)
    if invoice["status"] != "draft":
        raise invalid("You can only delete draft invoices.")
    if invoice["_subscription"]:
        raise invalid("You can't delete invoices created by subscriptions.")
    invoice_items.detach(context, invoice)
    context.store.delete("invoice", id)
    context.emit("invoice.deleted", invoice)
    return {"id": id, "object": "invoice", "deleted": True}


@resource.post(f"{OBJECT_URL}/finalize", Shape({"auto_advance": Boolean()}))
def finalize(context: Context, params: Params, id: str) -> Record:
    """Finalize a draft. Raises a 400 for another status, or a 404."""
    return lifecycle.finalize(context, id, params.get("auto_advance"))


@resource.post(
    f"{OBJECT_URL}/pay",
    Shape(
        {
            "off_session": Boolean(),
            "paid_out_of_band": Boolean(),
            "payment_method": Text(),
        }
    ),
)
def pay(context: Context, params: Params, id: str) -> Record:
    """Pay by card, or mark as paid out of band. Raises a 400, a 402 or a 404."""
    return invoice_payment.pay(
        context,
        id,
        out_of_band=params.get("paid_out_of_band", False),
        method=params.get("payment_method"),
        off_session=params.get("off_session", True),
    )


@resource.post(f"{OBJECT_URL}/void", Shape())
def void(context: Context, params: Params, id: str) -> Record:
    """Void an open or uncollectible invoice. Raises a 400 or a 404."""
    return lifecycle.void(context, id)


@resource.post(f"{OBJECT_URL}/send", Shape())
def send(context: Context, params: Params, id: str) -> Record:
    """Send an invoice manually. Raises a 400 or a 404."""
    return lifecycle.send(context, id)


@resource.post(f"{OBJECT_URL}/mark_uncollectible", Shape())
def mark_uncollectible(context: Context, params: Params, id: str) -> Record:
    """Mark an open invoice uncollectible. Raises a 400 or a 404."""
    return lifecycle.mark_uncollectible(context, id)


def require_email(customer: Record, collection_method: str) -> None:
    """Raise a 400 if a `send_invoice` customer has no e-mail address."""
    if collection_method == "send_invoice" and not customer.get("email"):
        raise invalid(
            "Missing email. In order to create invoices that are sent to the customer, "
            "the customer must have a valid email.",
            param="customer",
        )


def _require_attached(context: Context, customer: str, params: Params) -> None:
    name = "default_payment_method"
    payment_methods.require_attached(context, params.get(name), customer, name)


def _check_due_date(params: Params, method: str, *, has_due_date: bool) -> None:
    requested = {"days_until_due", "due_date"} & set(params)
    if len(requested) > 1:
        raise invalid("You can only specify one of 'due_date' or 'days_until_due'.")
    if method == "send_invoice" and not (requested or has_due_date):
        raise invalid(
            "If invoice collection method is 'send_invoice', you must specify "
            "'due_date' or 'days_until_due'."
        )
    if method != "send_invoice" and requested:
        raise invalid(
            "You can only specify 'due_date' or 'days_until_due' if invoice "
            "collection method is 'send_invoice'."
        )


def _assign(invoice: dict[str, Any], params: Params) -> None:
    copy_params(
        invoice,
        params,
        "collection_method",
        "default_payment_method",
        "description",
        "due_date",
        "footer",
        "statement_descriptor",
    )
    if "days_until_due" in params:
        invoice.update(_days_until_due=params["days_until_due"], due_date=None)
    if invoice["collection_method"] == "charge_automatically":
        invoice["due_date"] = None
    elif invoice["status"] == "draft":
        lifecycle.set_due_date(invoice)
    if "metadata" in params:
        invoice["metadata"] = merge_metadata(invoice["metadata"], params["metadata"])
    invoice["payment_settings"].update(params.get("payment_settings", {}))


def _finalization_time(
    context: Context, params: Params, *, auto_advance: bool
) -> int | None:
    """Return the requested finalization time, or None. Raises a 400.

    Source: docs page "Schedule invoice finalization": automatic advancement must be on,
    and the time at most five years ahead. The error texts are assumed.
    """
    name = "automatically_finalizes_at"
    at: int | None = params.get(name)
    if at is None:
        return None
    if not auto_advance:
        raise invalid(f"`{name}` needs `auto_advance` to be true.", param=name)
    if not context.now < at <= context.now + MAX_FINALIZATION_DELAY:
        raise invalid(
            f"`{name}` must be in the future, and at most 5 years ahead.", param=name
        )
    return at


def _schedule(context: Context, invoice: dict[str, Any], params: Params) -> None:
    advance = params.get("auto_advance", invoice["auto_advance"])
    at = _finalization_time(context, params, auto_advance=advance)
    if invoice["status"] == "draft":
        scheduled = invoice["automatically_finalizes_at"]
        # `auto_advance` was turned on after the creation: the hour starts now.
        default = context.now + finalization_delay.DRAFT_PERIOD
        invoice["automatically_finalizes_at"] = (
            (at or scheduled or default) if advance else None
        )
    resumes = invoice["status"] == "open" and advance and not invoice["auto_advance"]
    invoice["auto_advance"] = advance and invoice["status"] in ("draft", "open")
    if resumes:
        collection.resume(context, invoice)
