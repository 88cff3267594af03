"""Stripe's invoices, their items and payments: https://docs.stripe.com/api/invoices."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

from billing.clients.stripe.transport import (
    StripeTransport,
    read_nothing,
    v1,
    with_idempotency_key,
)
from billing.clients.stripe.types import (
    Invoice,
    InvoicePayment,
    Line,
    PaymentIntent,
    TaxRate,
    read_invoice,
    read_invoice_payment,
    read_line,
    read_payment_intent,
    read_pending_item,
)

#: Metadata of an invoice whose `auto_advance` we have switched off.
STOPPED_BY_US = {"caravel_auto_advance": "off"}
_INTENTS = "payments.data.payment.payment_intent"
_WHOLE: Any = {"expand": ["amount_paid_off_stripe", _INTENTS]}
#: Must not change: a charge is repeated under its key with the same parameters only.
_CHARGED: Any = {"expand": ["amount_paid_off_stripe"]}


class Invoices:
    """Calls on invoices."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def get(self, invoice_id: str) -> Invoice:
        """Return an invoice. Raises StripeNotFound, also for a deleted draft."""
        return self._transport.call(
            lambda: v1().invoices.retrieve(invoice_id, _WHOLE), read_invoice
        )

    def create_preview(self, params: Mapping[str, Any]) -> Invoice:
        """Return the next invoice that a change would lead to. Changes nothing.

        Its `subscription_details[proration_date]`, given to the change itself, leads to
        the same prorations: they start then. Raises StripeNotFound if there would be no
        invoice. https://docs.stripe.com/api/invoices/create_preview
        """
        args = cast(Any, dict(params))
        return self._transport.call(
            lambda: v1().invoices.create_preview(args), read_invoice
        )

    def finalize(self, invoice_id: str) -> Invoice:
        """Finalize a draft, with Stripe's automatic collection off."""
        args = cast(Any, {"auto_advance": False, **_WHOLE})
        return self._transport.call(
            lambda: v1().invoices.finalize_invoice(invoice_id, args), read_invoice
        )

    def stop_auto_advance(self, invoice_id: str) -> None:
        """Stop Stripe from finalizing or collecting an invoice automatically.

        Its metadata says that it was us, and not a person who holds the invoice.
        """
        args = cast(Any, {"auto_advance": False, "metadata": STOPPED_BY_US})
        self._transport.call(
            lambda: v1().invoices.update(invoice_id, args), read_nothing
        )

    def set_metadata(self, invoice_id: str, values: Mapping[str, str]) -> None:
        """Add metadata to an invoice, also to a finalized one."""
        args = cast(Any, {"metadata": dict(values)})
        self._transport.call(
            lambda: v1().invoices.update(invoice_id, args), read_nothing
        )

    def pay(self, invoice_id: str, params: Mapping[str, Any], key: str) -> Invoice:
        """Charge a card for an invoice, once per idempotency key.

        Raises StripeCardRefused, or another StripeRefused with nothing charged.
        https://docs.stripe.com/api/invoices/pay
        """
        args, options = with_idempotency_key({**params, **_CHARGED}, key)
        return self._transport.call(
            lambda: v1().invoices.pay(invoice_id, args, options), read_invoice
        )

    def mark_paid_out_of_band(self, invoice_id: str) -> Invoice:
        """Mark the whole remaining amount as paid outside Stripe.

        Raises StripeRefused if the invoice is already paid.
        """
        args, options = with_idempotency_key(
            {"paid_out_of_band": True, **_WHOLE}, f"mark:{uuid.uuid4()}"
        )
        return self._transport.call(
            lambda: v1().invoices.pay(invoice_id, args, options), read_invoice
        )

    def list_lines(self, invoice_id: str) -> list[Line]:
        """Return all lines of an invoice."""
        pages = self._transport.paginate(
            lambda p: v1().invoices.line_items.list(invoice_id, p),
            {"limit": 100},
            read_line,
        )
        return list(pages)

    def list_payments(self, invoice_id: str) -> list[InvoicePayment]:
        """Return the payments of an invoice, made and pending.

        https://docs.stripe.com/api/invoice-payment
        """
        params = {"invoice": invoice_id, "limit": 100}
        pages = self._transport.paginate(
            lambda p: v1().invoice_payments.list(p), params, read_invoice_payment
        )
        return list(pages)

    # Last, also in the other classes: below it, `list` in an annotation is this method.
    def list(
        self,
        *,
        subscription: str = "",
        customer: str = "",
        status: str = "",
        created: Mapping[str, int] | None = None,
    ) -> list[Invoice]:
        """Return the invoices that match all filters, newest first."""
        filters = {
            "subscription": subscription,
            "customer": customer,
            "status": status,
            "created": created,
        }
        params = {name: value for name, value in filters.items() if value}
        pages = self._transport.paginate(
            lambda p: v1().invoices.list(p), {**params, "limit": 100}, read_invoice
        )
        return list(pages)


class InvoiceItems:
    """Calls on invoice items."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def delete(self, item_id: str) -> None:
        """Delete a pending item. Raises StripeNotFound if there is none."""
        self._transport.call(lambda: v1().invoice_items.delete(item_id), read_nothing)

    def list_pending(
        self,
        *,
        customer: str,
        subscription: str,
        default_tax_rates: Sequence[TaxRate] = (),
    ) -> list[Line]:
        """Return the items pending for a subscription's next invoice.

        The tax rates are those of items without own ones.
        """
        params = {"customer": customer, "pending": True, "limit": 100}
        pages = self._transport.paginate(
            lambda p: v1().invoice_items.list(p),
            params,
            lambda found: read_pending_item(found, default_tax_rates),
        )
        return [line for owner, line in pages if owner == subscription]


class PaymentIntents:
    """Calls on PaymentIntents."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def get(self, intent_id: str) -> PaymentIntent:
        """Return a PaymentIntent."""
        return self._transport.call(
            lambda: v1().payment_intents.retrieve(intent_id), read_payment_intent
        )
