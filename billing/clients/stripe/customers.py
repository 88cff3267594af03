"""Stripe's customers and their cards: https://docs.stripe.com/api/customers."""

from collections.abc import Mapping
from typing import Any, cast

import stripe

from billing.clients.stripe.transport import (
    StripeTransport,
    read_nothing,
    v1,
    with_idempotency_key,
)
from billing.clients.stripe.types import Card, Customer, read_card, read_customer


class Customers:
    """Calls on customers."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def create(self, params: Mapping[str, Any], key: str) -> Customer:
        """Create a customer, once per idempotency key."""
        args, options = with_idempotency_key(params, key)
        return self._transport.call(
            lambda: v1().customers.create(args, options), read_customer
        )

    def get(self, customer_id: str) -> Customer:
        """Return a customer, also a deleted one.

        Raises StripeNotFound if the account never had it: then the key is one of
        another account, and nothing follows for the customer.
        """
        return self._transport.call(
            lambda: v1().customers.retrieve(customer_id), read_customer
        )

    def update(self, customer_id: str, params: Mapping[str, Any]) -> None:
        """Update a customer. Pass absolute values, so that a retry is harmless."""
        args = cast(Any, dict(params))
        self._transport.call(
            lambda: v1().customers.update(customer_id, args), read_nothing
        )

    def set_default_card(self, customer_id: str, card_id: str) -> None:
        """Set the card that pays a customer's invoices."""
        settings = {"invoice_settings": {"default_payment_method": card_id}}
        args = cast(Any, settings)
        self._transport.call(
            lambda: v1().customers.update(customer_id, args), read_nothing
        )

    def list(self, *, email: str) -> list[Customer]:
        """Return the customers with exactly this e-mail address, newest first."""
        pages = self._transport.paginate(
            lambda params: v1().customers.list(params),
            {"email": email, "limit": 100},
            read_customer,
        )
        return list(pages)


class PaymentMethods:
    """Calls on payment methods."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def get(self, method_id: str) -> Card:
        """Return a payment method of any type. Raises StripeNotFound."""
        return self._transport.call(
            lambda: v1().payment_methods.retrieve(method_id), read_card
        )

    def list_cards(self, customer_id: str) -> list[Card]:
        """Return a customer's cards, newest first."""
        params: stripe.params.PaymentMethodListParams = {
            "customer": customer_id,
            "type": "card",
            "limit": 100,
        }
        cards = self._transport.paginate(
            lambda p: v1().payment_methods.list(p), params, read_card
        )
        return sorted(cards, key=lambda card: card.created, reverse=True)
