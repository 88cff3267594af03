"""Invoice items: charges and credits for a future invoice (docs: Invoice Items)."""

from collections.abc import Sequence
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Boolean,
    Integer,
    Metadata,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource, public
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.catalog import tax_rates as rates
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.fields import (
    CURRENCY,
    check_amount,
    copy_params,
    empty_lists,
    new_metadata,
    nulls,
)
from sandbox.stripe.objects.schemas import invoice_amounts
from sandbox.stripe.objects.schemas.invoice import line_parent, new_line, pricing
from sandbox.stripe.store.records import Record, Store

URL = "/v1/invoiceitems"
OBJECT_URL = f"{URL}/{{id}}"
KIND = "invoiceitem"


def _render(store: Store, record: Record) -> dict[str, Any]:
    rendered = public(store, record)
    del rendered["created"]  # The API calls it `date`.
    rendered["tax_rates"] = rates.render_all(store, record["_tax_rates"] or [])
    return rendered


resource = Resource(KIND, render=_render, indexes=("customer", "_pending", "_loose"))

CREATE = Shape(
    {
        "amount": Integer(),
        "currency": CURRENCY,
        "customer": Text(),
        "description": Text(),
        "discountable": Boolean(),
        "invoice": Text(),
        "metadata": Metadata(),
        "subscription": Text(),
        "tax_rates": rates.TAX_RATES,
    },
    required=("customer", "amount", "currency"),
)
UPDATE = Shape({"amount": Integer(), "description": Text(), "metadata": Metadata()})
resource.retrievable(URL)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Add an item to a draft, or to the customer's next invoice. Raises a 400."""
    customer = context.get_referenced("customer", params["customer"], "customer")
    draft = _draft_for(context, params)
    balance_transactions.set_currency(context, customer, params["currency"], "currency")
    check_amount(params["amount"], params["currency"], "amount")
    _check_discountable(params)
    tax_rates = rates.require_active(context, params.get("tax_rates", []), "tax_rates")
    item = add(
        context,
        customer=customer["id"],
        amount=params["amount"],
        currency=params["currency"],
        description=params.get("description"),
        period=Period(context.now, context.now),
        subscription=_subscription_for(context, params),
        metadata=new_metadata(params),
        discountable=params.get("discountable", params["amount"] >= 0),
        tax_rates=tax_rates or None,
    )
    if draft:
        _add_to_draft(context, draft, item, customer["balance"])
    return context.get(KIND, item["id"])


@resource.get(URL, listing(customer=Text(), pending=Boolean()))
def list_(context: Context, params: Params) -> Record:
    """Return invoice items, newest first. `pending` items are not on an invoice yet."""
    pending = params.get("pending")
    return page(
        context.store,
        KIND,
        URL,
        params,
        filters={"customer": params.get("customer")},
        where=lambda item: pending in (None, item["invoice"] is None),
    )


@resource.post(OBJECT_URL, UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Update a pending item, or one on a draft with its line. Raises a 400 or a 404."""
    invoice = _draft_of(context, context.get(KIND, id))
    with context.update(KIND, id) as item:
        copy_params(item, params, "amount", "description", "metadata")
        check_amount(item["amount"], item["currency"], "amount")
        _check_discountable(item)
        if not item["discountable"]:
            item["net_amount"] = item["amount"]
    if invoice:
        line = {name: item[name] for name in ("amount", "description", "metadata")}
        _change_line(context, invoice, id, {**line, "subtotal": item["amount"]})
    return item


@resource.delete(OBJECT_URL, Shape())
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete a pending item, or one on a draft. Raises a 400 or a 404."""
    item = context.get(KIND, id)
    if invoice := _draft_of(context, item):
        _change_line(context, invoice, id, None)
    delete_item(context, item)
    return {"id": id, "object": KIND, "deleted": True}


def add(
    context: Context,
    *,
    customer: str,
    amount: int,
    currency: str,
    description: str | None,
    period: Period,
    subscription: str | None = None,
    item: str | None = None,
    price: Record | None = None,
    quantity: int = 1,
    details: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
    discountable: bool = False,
    tax_rates: Sequence[str] | None = None,
) -> Record:
    """Store a pending item and emit `invoiceitem.created`.

    `details` are the `proration_details` of a proration. Without `tax_rates` the
    defaults of the invoice apply.
    """
    proration = details is not None
    record: dict[str, Any] = {
        **context.new(KIND, "ii"),
        **nulls("customer_account invoice test_clock"),
        **empty_lists("discounts invoicing_rules"),
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "date": context.now,
        "description": description,
        "discountable": discountable,
        "frozen_fields": ["pricing", "quantity", "discounts"] if proration else [],
        "metadata": metadata or {},
        # Absent for discountable items (SDK, InvoiceItem.net_amount).
        **({} if discountable else {"net_amount": amount}),
        "parent": {
            "subscription_details": {
                "subscription": subscription,
                **({"subscription_item": item} if item else {}),
            },
            "type": "subscription_details",
        }
        if subscription
        else None,
        "period": {"end": period.end, "start": period.start},
        "pricing": pricing(price),
        "proration": proration,
        **({"proration_details": details} if details else {}),
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        # Indexes of pending items: one is set while no invoice has the item.
        "_loose": None if subscription else customer,
        "_pending": subscription,
        "_price": price and price["id"],
        "_tax_rates": None if tax_rates is None else list(tax_rates),
    }
    return context.insert(record, "invoiceitem.created")


def pending(context: Context, subscription: str) -> list[Record]:
    """Return the pending items of a subscription, newest first."""
    return list(context.store.scan(KIND, index=("_pending", subscription)))


def pending_without_subscription(context: Context, customer: str) -> list[Record]:
    """Return a customer's pending items without a subscription, newest first."""
    return list(context.store.scan(KIND, index=("_loose", customer)))


def delete_item(context: Context, item: Record) -> None:
    """Delete an item and emit `invoiceitem.deleted`."""
    context.store.delete(KIND, item["id"])
    context.emit("invoiceitem.deleted", item)


def attach(context: Context, items: list[Record], invoice: str) -> None:
    """Link pending items to an invoice."""
    for item in items:
        context.change(KIND, item["id"], invoice=invoice, _loose=None, _pending=None)


def detach(context: Context, invoice: Record) -> None:
    """Make the items of a deleted one-off draft pending again.

    No page documents this; source: reports of Stripe users.
    """
    for item in context.store.scan(KIND, index=("customer", invoice["customer"])):
        if item["invoice"] == invoice["id"]:
            context.change(KIND, item["id"], invoice=None, _loose=item["customer"])


def release_to_customer(context: Context, subscription: Record) -> None:
    """Move the pending items of an ended subscription to the customer."""
    for item in pending(context, subscription["id"]):
        context.change(KIND, item["id"], _loose=item["customer"], _pending=None)


def new_line_for(context: Context, item: Record) -> dict[str, Any]:
    """Return a new invoice line for an item."""
    details = item.get("proration_details", {})
    credited = details.get("credited_items")
    return new_line(
        context,
        amount=item["amount"],
        currency=item["currency"],
        description=item["description"],
        period=Period(item["period"]["start"], item["period"]["end"]),
        parent=line_parent(
            invoice_item=item["id"],
            credited=credited and credited.get("invoice_line_item_details"),
            **(item["parent"] or {}).get("subscription_details", {}),
        ),
        price=context.store.get("price", item["_price"] or ""),
        quantity=item["quantity"],
        discountable=item["discountable"],
        tax_rates=item["_tax_rates"],
        included_discounts=[
            entry["discount"] for entry in details.get("discount_amounts", ())
        ],
    )


def line_on(invoice: Record, item: str) -> Record | None:
    """Return the invoice's line for an item, or None."""
    for line in invoice["_lines"]:
        parent = line["parent"]
        if parent[parent["type"]]["invoice_item"] == item:
            found: Record = line
            return found
    return None


def _check_discountable(params: Params) -> None:
    if params.get("discountable") and params["amount"] < 0:
        raise invalid(
            "A negative invoice item can't be discountable.", param="discountable"
        )


def _draft_for(context: Context, params: Params) -> Record | None:
    if "invoice" not in params:
        return None
    invoice = context.get_referenced("invoice", params["invoice"], "invoice")
    if invoice["customer"] != params["customer"]:
        raise missing("invoice", params["invoice"], param="invoice", status=400)
    if invoice["status"] != "draft":
        raise invalid(
            "The specified invoice is already finalized and can't be changed.",
            param="invoice",
            code="invoice_not_editable",
        )
    return invoice


def _subscription_for(context: Context, params: Params) -> str | None:
    """Return the subscription on whose next invoice an item goes. Raises a 400."""
    if "subscription" not in params:
        return None
    name = "subscription"
    subscription = context.get_referenced(name, params[name], name)
    # Assumed for an ended one: it has no next invoice.
    if subscription["customer"] != params["customer"] or subscription["ended_at"]:
        raise missing(name, params[name], param=name, status=400)
    return str(subscription["id"])


def _draft_of(context: Context, item: Record) -> Record | None:
    """Return the draft that an item is on, or None. Raises a 400 if it is finalized."""
    invoice = context.store.get("invoice", item["invoice"] or "")
    if invoice and invoice["status"] != "draft":
        raise invalid(
            "This invoice item is on a finalized invoice and can't be changed.",
            code="invoice_not_editable",
        )
    return invoice


def _change_line(
    context: Context, invoice: Record, item: str, changes: Record | None
) -> None:
    """Change the line of an item on a draft, or remove it."""
    old = line_on(invoice, item)
    customer = context.store.get("customer", invoice["customer"]) or {}
    balance = customer.get("balance", invoice["starting_balance"])
    with context.update("invoice", invoice["id"], "invoice.updated") as draft:
        draft["_lines"] = [
            {**line, **(changes or {})} if line == old else line
            for line in draft["_lines"]
            if changes is not None or line != old
        ]
        invoice_amounts.calculate(context.store, draft)
        draft.update(invoice_amounts.due(draft, balance))
    discounts.consume(context, draft)


def _add_to_draft(
    context: Context, invoice: Record, item: Record, balance: int
) -> None:
    attach(context, [item], invoice["id"])
    line = {**new_line_for(context, item), "invoice": invoice["id"]}
    with context.update("invoice", invoice["id"], "invoice.updated") as draft:
        draft["_lines"].append(line)
        invoice_amounts.calculate(context.store, draft)
        draft.update(invoice_amounts.due(draft, balance))
    discounts.consume(context, draft)
