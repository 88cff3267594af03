"""Endpoints of invoices (docs: API reference, Invoices)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
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
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.fields import COLLECTION_METHOD, copy_params
from sandbox.stripe.objects.invoices import (
    finalization_delay,
    finalization_failure,
    lifecycle,
)
from sandbox.stripe.objects.invoices import items as invoice_items
from sandbox.stripe.objects.invoices import pay as invoice_payment
from sandbox.stripe.objects.invoices.payment_records import render_payments
from sandbox.stripe.objects.schemas import invoice as invoice_shape
from sandbox.stripe.objects.schemas import invoice_amounts
from sandbox.stripe.store.records import Record

URL = "/v1/invoices"
OBJECT_URL = f"{URL}/{{id}}"
resource = Resource(
    "invoice",
    indexes=("customer", "_subscription", "_token", "status"),
    render=invoice_shape.render,
    includable={
        "amount_paid_off_stripe": lambda store, record: record["_paid_off_stripe"],
        "payments": render_payments,
    },
)

FIELDS: dict[str, Kind] = {
    "auto_advance": Boolean(),
    "automatically_finalizes_at": Integer(0),
    "collection_method": COLLECTION_METHOD,
    "days_until_due": Integer(0),
    "default_tax_rates": tax_rates.TAX_RATES,
    "description": Text(unset=True),
    "discounts": discounts.DISCOUNTS,
    "footer": Text(unset=True),
    "metadata": Metadata(),
}
MAX_SCHEDULE = 5 * 366 * DAY
EDITABLE_ALWAYS = frozenset({"auto_advance", "expand", "metadata"})
CREATE = Shape(
    {
        **FIELDS,
        "customer": Text(),
        "pending_invoice_items_behavior": Choice(("exclude", "include")),
    },
    required=("customer",),
)
PAY = Shape(
    {"off_session": Boolean(), "paid_out_of_band": Boolean(), "payment_method": Text()}
)
STATUSES = Choice(("draft", "open", "void", "paid", "uncollectible"))
LIST = listing(
    collection_method=COLLECTION_METHOD,
    created=Range(),
    customer=Text(),
    status=STATUSES,
    subscription=Text(),
)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a one-off draft; `auto_advance` is off by default. Raises a 400."""
    customer = context.get_referenced("customer", params["customer"], "customer")
    method = params.get("collection_method", "charge_automatically")
    require_email(customer, method)
    _check_due_date(params, method, has_due_date=False)
    items = (
        invoice_items.pending_without_subscription(context, customer["id"])
        if params.get("pending_invoice_items_behavior") == "include"
        else []
    )
    currency = customer["currency"] or "usd"
    balance_transactions.set_currency(context, customer, currency)
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
    if "discounts" not in params:
        inherited = discounts.of_customer(context.store, customer["id"])
        invoice["discounts"] = discounts.applicable(context, inherited, currency)
    _assign(invoice, params)
    _price(context, invoice, params, customer["balance"])
    _schedule_finalization(context, invoice, params)
    return lifecycle.add(context, invoice, items)


@resource.get(URL, LIST)
def list_(context: Context, params: Params) -> Record:
    """Return invoices, newest first."""
    filters = {
        "customer": params.get("customer"),
        "_subscription": params.get("subscription"),
        "status": params.get("status"),
    }
    method = params.get("collection_method")
    return page(
        context.store,
        "invoice",
        URL,
        params,
        filters=filters,
        where=lambda invoice: method in (None, invoice["collection_method"]),
    )


resource.retrievable(URL)


@resource.get(f"{OBJECT_URL}/lines", listing())
def list_lines(context: Context, params: Params, id: str) -> Record:
    """Return all lines, in pages. The invoice object has only the first ten."""
    invoice = context.get("invoice", id)
    return invoice_shape.lines_page(context.store, invoice, params)


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
    if {"collection_method", "days_until_due"} & set(params):
        customer = context.store.get("customer", invoice["customer"]) or {}
        method = params.get("collection_method", invoice["collection_method"])
        require_email(customer, method)
        has_due_date = invoice["due_date"] is not None
        _check_due_date(params, method, has_due_date=has_due_date)
    with context.update("invoice", id, "invoice.updated") as draft:
        _assign(draft, params)
        if {"default_tax_rates", "discounts"} & set(params):
            _price(context, draft, params, draft["starting_balance"])
        if "auto_advance" in params:
            _set_auto_advance(context, draft, params["auto_advance"])
        _schedule_finalization(context, draft, params)
    discounts.consume(context, draft)
    return draft


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
    finalized = lifecycle.finalize(context, id, params.get("auto_advance"))
    if finalized["status"] == "draft":
        raise finalization_failure.error_of(finalized)
    return finalized


@resource.post(f"{OBJECT_URL}/pay", PAY)
def pay(context: Context, params: Params, id: str) -> Record:
    """Pay by card, or mark as paid out of band. Raises a 400, a 402 or a 404."""
    return invoice_payment.pay(context, id, params)


@resource.post(f"{OBJECT_URL}/void", Shape())
def void(context: Context, params: Params, id: str) -> Record:
    """Void an open or uncollectible invoice. Raises a 400 or a 404."""
    return lifecycle.void(context, id)


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


def _check_due_date(params: Params, method: str, *, has_due_date: bool) -> None:
    requested = "days_until_due" in params
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


def _price(
    context: Context, invoice: dict[str, Any], params: Params, balance: int
) -> None:
    """Set the discounts and tax rates of a draft, and its amounts. Raises a 400."""
    name = "default_tax_rates"
    if name in params:
        invoice[f"_{name}"] = tax_rates.require_active(context, params[name], name)
    if "discounts" in params:
        invoice["discounts"] = discounts.redeem(
            context,
            params["discounts"],
            customer=invoice["customer"],
            currency=invoice["currency"],
            reusable=_reusable_discounts(context, invoice),
            invoice=invoice["id"],
        )
    invoice_amounts.calculate(context.store, invoice)
    invoice.update(invoice_amounts.due(invoice, balance))


def _reusable_discounts(context: Context, invoice: Record) -> list[str]:
    """Return the discounts of an invoice, its subscription and its customer."""
    subscription = context.store.get("subscription", invoice["_subscription"] or "")
    ids = subscription["_discounts"] if subscription else []
    store = context.store
    inherited = discounts.of_customer(store, invoice["customer"])
    return [*invoice["discounts"], *discounts.live(store, ids), *inherited]


def _assign(invoice: dict[str, Any], params: Params) -> None:
    copy_params(
        invoice, params, "collection_method", "description", "footer", "metadata"
    )
    if "days_until_due" in params:
        invoice.update(_days_until_due=params["days_until_due"], due_date=None)
    if invoice["collection_method"] == "charge_automatically":
        invoice["due_date"] = None
    elif invoice["status"] == "draft":
        lifecycle.set_due_date(invoice)


def _schedule_finalization(
    context: Context, draft: dict[str, Any], params: Params
) -> None:
    """Finalize a draft at a time that staff choose. Raises a 400.

    Source: docs page "Schedule invoice finalization": automatic advancement must be on;
    undelivered events do not delay it.
    """
    at = params.get("automatically_finalizes_at")
    if at is None:
        return
    if not draft["auto_advance"]:
        raise invalid(
            "`automatically_finalizes_at` requires `auto_advance` to be true.",
            param="automatically_finalizes_at",
        )
    if not context.now < at <= context.now + MAX_SCHEDULE:
        raise invalid(
            "`automatically_finalizes_at` must be in the next five years.",
            param="automatically_finalizes_at",
        )
    draft.update(automatically_finalizes_at=at, _scheduled=True)


def _set_auto_advance(
    context: Context, invoice: dict[str, Any], auto_advance: bool
) -> None:
    """Turn automatic advancement on or off. Raises a 400."""
    status = invoice["status"]
    if status == "draft" and auto_advance:
        at = invoice["automatically_finalizes_at"]
        # It was off since the creation: the hour starts now.
        at = at or context.now + finalization_delay.DRAFT_PERIOD
        invoice["automatically_finalizes_at"] = at
    elif status == "draft":
        invoice["automatically_finalizes_at"] = None
    turned_on = auto_advance and not invoice["auto_advance"]
    automatic = invoice["collection_method"] == "charge_automatically"
    if status == "open" and turned_on and automatic:
        raise invalid(
            "The sandbox charges an invoice automatically only when it is finalized.",
            param="auto_advance",
        )
    invoice["auto_advance"] = auto_advance and status in ("draft", "open")
