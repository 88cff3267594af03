"""Fields of invoices and their lines (SDK types Invoice, InvoiceLineItem)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import slice_page
from sandbox.stripe.api.routing import public
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.fields import empty_lists, nulls, zeros
from sandbox.stripe.objects.schemas import invoice_amounts
from sandbox.stripe.store.records import Record, Store

UNUSED = {
    **nulls(
        "account_tax_ids application custom_fields customer_account "
        "default_payment_method default_source from_invoice last_finalization_error "
        "latest_revision on_behalf_of receipt_number rendering shipping_cost "
        "shipping_details statement_descriptor test_clock"
    ),
    **empty_lists("customer_tax_ids"),
    **zeros("amount_overpaid amount_shipping"),
}
INITIAL = {
    **nulls(
        "automatically_finalizes_at description due_date effective_at ending_balance "
        "footer hosted_invoice_url invoice_pdf next_payment_attempt number "
        "webhooks_delivered_at _days_until_due _subscription _token"
    ),
    **zeros(
        "amount_paid attempt_count post_payment_credit_notes_amount "
        "pre_payment_credit_notes_amount _paid_off_stripe"
    ),
}


def render(store: Store, record: Record) -> dict[str, Any]:
    """Return the invoice with its first ten lines.

    The amounts of a draft follow the customer's current balance.
    """
    rendered = public(store, record)
    rendered["default_tax_rates"] = tax_rates.render_all(
        store, record["_default_tax_rates"]
    )
    customer = store.get("customer", record["customer"]) or {}
    # A deleted customer has no balance: the stored amounts stay.
    if record["status"] == "draft" and "balance" in customer:
        rendered.update(invoice_amounts.due(record, customer["balance"]))
    # An automatic charge follows the finalization; there are no retries.
    automatic = record["collection_method"] == "charge_automatically"
    if automatic and record["auto_advance"]:
        rendered["next_payment_attempt"] = record["automatically_finalizes_at"]
    rendered["lines"] = lines_page(store, record, {})
    return rendered


def lines_page(
    store: Store, record: Record, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a page of an invoice's lines. Raises a 400 for an invalid cursor."""
    lines = [public(store, line) for line in record["_lines"]]
    return slice_page(lines, f"/v1/invoices/{record['id']}/lines", params)


def new_line(
    context: Context,
    *,
    amount: int,
    currency: str,
    description: str | None,
    period: Period,
    parent: dict[str, Any],
    price: Record | None,
    quantity: int,
    metadata: dict[str, str] | None = None,
    discountable: bool = True,
    tax_rates: Sequence[str] | None = None,
    included_discounts: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a line that is not on an invoice yet.

    `included_discounts` have already reduced its amount. Without `tax_rates` the
    defaults of the invoice apply.
    """
    return {
        "id": context.ids.new("il"),
        "object": "line_item",
        **empty_lists("discounts taxes"),
        "amount": amount,
        "currency": currency,
        "description": description,
        "discountable": discountable,
        "invoice": None,
        "livemode": context.livemode,
        "metadata": metadata or {},
        "parent": parent,
        "period": {"end": period.end, "start": period.start},
        "pricing": pricing(price),
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "subscription": parent[parent["type"]]["subscription"],
        "subtotal": amount,
        "_included_discounts": list(included_discounts),
        "_tax_rates": None if tax_rates is None else list(tax_rates),
    }


def pricing(price: Record | None) -> dict[str, Any] | None:
    """Return the `pricing` of a line or an invoice item."""
    if price is None:
        return None
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def line_parent(
    *,
    subscription: str | None = None,
    subscription_item: str | None = None,
    invoice_item: str | None = None,
    credited: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the `parent` of a line: for a subscription item, or an invoice item."""
    details = {
        "invoice_item": invoice_item,
        "proration": bool(subscription_item and invoice_item),
        "proration_details": {"credited_items": credited},
        "subscription": subscription,
    }
    type = "invoice_item_details"
    if subscription_item:
        type = "subscription_item_details"
        details["subscription_item"] = subscription_item
    return {
        "invoice_item_details": None,
        "subscription_item_details": None,
        type: details,
        "type": type,
    }


def subscription_parent(subscription: Record) -> dict[str, Any]:
    """Return the `parent` of a subscription's invoice, with a copy of its metadata."""
    return {
        "quote_details": None,
        "subscription_details": {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"],
        },
        "type": "subscription_details",
    }


def subscription_of(invoice: Record) -> str | None:
    """Return the id of the invoice's subscription, or None."""
    parent = invoice["parent"]
    return parent["subscription_details"]["subscription"] if parent else None


def new_invoice(
    context: Context,
    *,
    customer: Record,
    currency: str,
    collection_method: str,
    reason: str,
    period: Period,
    lines: Sequence[dict[str, Any]],
    parent: dict[str, Any] | None = None,
    discounts: Sequence[str] = (),
    default_tax_rates: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a draft with these lines and its totals."""
    invoice: dict[str, Any] = {
        **UNUSED,
        **INITIAL,
        **context.new("invoice", "in"),
        "account_country": "US",
        "account_name": "Sandbox",
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "enabled": False,
            **nulls("disabled_reason liability provider status"),
        },
        "billing_reason": reason,
        "collection_method": collection_method,
        "currency": currency,
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "discounts": list(discounts),
        "issuer": {"type": "self"},
        "metadata": {},
        "parent": parent,
        "payment_settings": nulls(
            "default_mandate payment_method_options payment_method_types"
        ),
        "period_end": period.end,
        "period_start": period.start,
        "status": "draft",
        "status_transitions": nulls(
            "finalized_at marked_uncollectible_at paid_at voided_at"
        ),
        # End of collection; time of `invoice.overdue`; True once the due date passed.
        "_gives_up_at": None,
        "_overdue_at": None,
        "_passed_due": False,
        "_default_tax_rates": list(default_tax_rates),
        "_lines": [],
    }
    for line in lines:
        invoice["_lines"].append({**line, "invoice": invoice["id"]})
    invoice["_subscription"] = subscription_of(invoice)
    invoice_amounts.calculate(context.store, invoice)
    invoice.update(invoice_amounts.due(invoice, customer["balance"]))
    return invoice
