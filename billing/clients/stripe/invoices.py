"""Stripe's invoices, payments and credits: https://docs.stripe.com/api/invoices."""

import uuid
from collections.abc import Mapping
from typing import Any, cast

import stripe

from billing.clients.stripe.transport import StripeTransport, v1, with_idempotency_key
from billing.clients.stripe.types import (
    BalanceTransaction,
    CreditNote,
    Invoice,
    InvoicePayment,
    Line,
    PaymentIntent,
    read_balance_transaction,
    read_credit_note,
    read_invoice,
    read_invoice_payment,
    read_line,
    read_payment_intent,
    read_pending_item,
)

_WHOLE: Any = {"expand": ["amount_paid_off_stripe"]}


class InvoiceCalls(StripeTransport):
    """Calls on invoices, credit notes and customer balances."""

    def get_invoice(self, invoice_id: str) -> Invoice:
        """Return an invoice. Raises StripeNotFound, also for a deleted draft."""
        return read_invoice(
            self._call(lambda: v1().invoices.retrieve(invoice_id, _WHOLE))
        )

    def list_invoices(
        self, *, subscription: str = "", customer: str = "", status: str = ""
    ) -> list[Invoice]:
        """Return the invoices of a subscription or a customer, newest first."""
        filters = {"subscription": subscription, "customer": customer, "status": status}
        params = {name: value for name, value in filters.items() if value}
        pages = self._paginate(
            lambda p: v1().invoices.list(p), {**params, "limit": 100}
        )
        return [read_invoice(found) for found in pages]

    def list_lines(self, invoice_id: str) -> list[Line]:
        """Return all lines of an invoice."""
        pages = self._paginate(
            lambda p: v1().invoices.line_items.list(invoice_id, p), {"limit": 100}
        )
        return [read_line(found) for found in pages]

    def list_pending_items(self, *, customer: str, subscription: str) -> list[Line]:
        """Return the items pending for a subscription's next invoice."""
        params = {"customer": customer, "pending": True, "limit": 100}
        pages = self._paginate(lambda p: v1().invoice_items.list(p), params)
        return [
            read_pending_item(found)
            for found in pages
            if _subscription_of(found) == subscription
        ]

    def finalize_invoice(self, invoice_id: str) -> Invoice:
        """Finalize a draft, with Stripe's automatic collection off."""
        args = cast(Any, {"auto_advance": False, **_WHOLE})
        return read_invoice(
            self._call(lambda: v1().invoices.finalize_invoice(invoice_id, args))
        )

    def stop_auto_advance(self, invoice_id: str) -> None:
        """Stop Stripe from finalizing or collecting an invoice automatically."""
        self._call(lambda: v1().invoices.update(invoice_id, {"auto_advance": False}))

    def set_invoice_metadata(self, invoice_id: str, values: Mapping[str, str]) -> None:
        """Add metadata to an invoice, also to a finalized one."""
        args = cast(Any, {"metadata": dict(values)})
        self._call(lambda: v1().invoices.update(invoice_id, args))

    def pay_invoice(
        self, invoice_id: str, params: Mapping[str, Any], key: str
    ) -> Invoice:
        """Charge a card for an invoice, once per idempotency key.

        Raises StripeCardRefused, or another StripeRefused with nothing charged.
        https://docs.stripe.com/api/invoices/pay
        """
        args, options = with_idempotency_key({**params, **_WHOLE}, key)
        paid = self._call(lambda: v1().invoices.pay(invoice_id, args, options))
        return read_invoice(paid)

    def mark_paid_out_of_band(self, invoice_id: str) -> Invoice:
        """Mark the whole remaining amount as paid outside Stripe.

        Raises StripeRefused if the invoice is already paid.
        """
        args, options = with_idempotency_key(
            {"paid_out_of_band": True, **_WHOLE}, f"mark:{uuid.uuid4()}"
        )
        paid = self._call(lambda: v1().invoices.pay(invoice_id, args, options))
        return read_invoice(paid)

    def list_invoice_payments(self, invoice_id: str) -> list[InvoicePayment]:
        """Return the payments of an invoice, made and pending.

        https://docs.stripe.com/api/invoice-payment
        """
        params = {"invoice": invoice_id, "limit": 100}
        pages = self._paginate(lambda p: v1().invoice_payments.list(p), params)
        return [read_invoice_payment(found) for found in pages]

    def get_payment_intent(self, intent_id: str) -> PaymentIntent:
        """Return a PaymentIntent."""
        found = self._call(lambda: v1().payment_intents.retrieve(intent_id))
        return read_payment_intent(found)

    def create_credit_note(self, params: Mapping[str, Any], key: str) -> CreditNote:
        """Reduce the amount of an open invoice, once per idempotency key.

        https://docs.stripe.com/api/credit_notes/create
        """
        args, options = with_idempotency_key(params, key)
        return read_credit_note(
            self._call(lambda: v1().credit_notes.create(args, options))
        )

    def list_credit_notes(self, *, invoice: str) -> list[CreditNote]:
        """Return the credit notes of an invoice, newest first."""
        params: stripe.params.CreditNoteListParams = {"invoice": invoice, "limit": 100}
        pages = self._paginate(lambda p: v1().credit_notes.list(p), params)
        return [read_credit_note(found) for found in pages]

    def create_balance_transaction(
        self, customer: str, params: Mapping[str, Any], key: str
    ) -> BalanceTransaction:
        """Change a customer's balance, once per key; negative amounts are credit.

        https://docs.stripe.com/api/customer_balance_transactions/create
        """
        args, options = with_idempotency_key(params, key)
        made = self._call(
            lambda: v1().customers.balance_transactions.create(customer, args, options)
        )
        return read_balance_transaction(made)

    def list_balance_transactions(self, customer: str) -> list[BalanceTransaction]:
        """Return a customer's balance transactions, newest first."""
        pages = self._paginate(
            lambda p: v1().customers.balance_transactions.list(customer, p),
            {"limit": 100},
        )
        return [read_balance_transaction(found) for found in pages]


def _subscription_of(found: Any) -> str:
    details = found.parent.subscription_details if found.parent else None
    reference = details.subscription if details else ""
    return str(getattr(reference, "id", reference) or "")
