"""Stripe's credit notes and balances: https://docs.stripe.com/api/credit_notes."""

from collections.abc import Mapping
from typing import Any

import stripe

from billing.clients.stripe.transport import StripeTransport, v1, with_idempotency_key
from billing.clients.stripe.types import (
    BalanceTransaction,
    CreditNote,
    read_balance_transaction,
    read_credit_note,
)


class CreditNotes:
    """Calls on credit notes."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def create(self, params: Mapping[str, Any], key: str) -> CreditNote:
        """Reduce the amount of an open invoice, once per idempotency key.

        https://docs.stripe.com/api/credit_notes/create
        """
        args, options = with_idempotency_key(params, key)
        return self._transport.call(
            lambda: v1().credit_notes.create(args, options), read_credit_note
        )

    def list(self, *, invoice: str) -> list[CreditNote]:
        """Return the credit notes of an invoice, newest first."""
        params: stripe.params.CreditNoteListParams = {"invoice": invoice, "limit": 100}
        pages = self._transport.paginate(
            lambda p: v1().credit_notes.list(p), params, read_credit_note
        )
        return list(pages)


class CustomerBalanceTransactions:
    """Calls on customers' balances."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def create(
        self, customer: str, params: Mapping[str, Any], key: str
    ) -> BalanceTransaction:
        """Change a customer's balance, once per key; negative amounts are credit.

        https://docs.stripe.com/api/customer_balance_transactions/create
        """
        args, options = with_idempotency_key(params, key)
        return self._transport.call(
            lambda: v1().customers.balance_transactions.create(customer, args, options),
            read_balance_transaction,
        )

    def list(self, customer: str) -> list[BalanceTransaction]:
        """Return a customer's balance transactions, newest first."""
        pages = self._transport.paginate(
            lambda p: v1().customers.balance_transactions.list(customer, p),
            {"limit": 100},
            read_balance_transaction,
        )
        return list(pages)
