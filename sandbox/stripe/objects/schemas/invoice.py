"""Fields of invoices and their lines (SDK types Invoice, InvoiceLineItem)."""

from collections.abc import Sequence
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import slice_page
from sandbox.stripe.api.routing import public
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.money import currencies
from sandbox.stripe.money.rounding import AmountDue, apply_balance
from sandbox.stripe.objects.fields import always_null, amount_decimal
from sandbox.stripe.store.records import Record, Store

NULL_FIELDS = always_null(
    "account_tax_ids application custom_fields customer_account "
    "default_payment_method default_source from_invoice last_finalization_error "
    "latest_revision on_behalf_of receipt_number rendering shipping_cost "
    "shipping_details statement_descriptor test_clock threshold_reason"
)


def render(store: Store, record: Record) -> dict[str, Any]:
    """Return the invoice with its first ten lines.

    The amounts of a draft follow the customer's current balance.
    """
    rendered = public(store, record)
    customer = store.get("customer", record["customer"]) or {}
    # A deleted customer has no balance: the stored amounts stay.
    if record["status"] == "draft" and "balance" in customer:
        rendered.update(
            totals(record["_lines"], customer["balance"], record["currency"])
        )
    # An automatic charge follows the finalization; there are no retries.
    automatic = record["collection_method"] == "charge_automatically"
    if automatic and record["auto_advance"]:
        rendered["next_payment_attempt"] = record["automatically_finalizes_at"]
    rendered["lines"] = slice_page(
        record["_lines"], f"/v1/invoices/{record['id']}/lines", {}
    )
    return rendered


def totals(lines: Sequence[Record], balance: int, currency: str) -> dict[str, int]:
    """Return the totals of a draft with these lines and this customer balance."""
    total = sum(line["amount"] for line in lines)
    due = compute_amount_due(total, balance, currency).amount_due
    return {
        "amount_due": due,
        "amount_remaining": due,
        "starting_balance": balance,
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total,
        "total_excluding_tax": total,
    }


def compute_amount_due(total: int, balance: int, currency: str) -> AmountDue:
    """Apply the balance to a total, respecting the currency's minimum charge."""
    minimum = currencies.minimum_charge(currency)
    return apply_balance(total=total, balance=balance, minimum=minimum)


def new_line(
    context: Context,
    *,
    amount: int,
    currency: str,
    description: str | None,
    period: Period,
    parent: dict[str, Any],
    price: Record | None = None,
    quantity: int | None = None,
    metadata: dict[str, str] | None = None,
    discountable: bool = True,
) -> dict[str, Any]:
    """Return a line that is not on an invoice yet."""
    return {
        "id": context.ids.new("il"),
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": discountable,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": metadata or {},
        "parent": parent,
        "period": {"end": period.end, "start": period.start},
        "pretax_credit_amounts": [],
        "pricing": pricing(price),
        "quantity": quantity,
        "quantity_decimal": amount_decimal(quantity),
        "subscription": parent[parent["type"]]["subscription"],
        "subtotal": amount,
        "taxes": [],
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
            "subscription_proration_date": None,
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
) -> dict[str, Any]:
    """Return a draft with these lines and totals."""
    invoice: dict[str, Any] = {
        **NULL_FIELDS,
        "id": context.ids.new("in"),
        "object": "invoice",
        "account_country": "US",
        "account_name": "Sandbox",
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": collection_method,
        "created": context.now,
        "currency": currency,
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"account": None, "type": "self"},
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "parent": parent,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": period.end,
        "period_start": period.start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "status": "draft",
        "status_details": None,
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
        "_days_until_due": None,
        # End of collection; time of `invoice.overdue`; True once the due date passed.
        "_gives_up_at": None,
        "_overdue_at": None,
        "_passed_due": False,
        "_lines": [],
        "_paid_off_stripe": 0,
        "_subscription": None,
        "_token": None,
    }
    for line in lines:
        invoice["_lines"].append({**line, "invoice": invoice["id"]})
    invoice["_subscription"] = subscription_of(invoice)
    invoice.update(totals(invoice["_lines"], customer["balance"], currency))
    return invoice
