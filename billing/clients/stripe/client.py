"""Stripe: https://docs.stripe.com/api, at the pinned API version."""

import uuid
from collections.abc import Mapping
from typing import Any, cast

import stripe

from billing.clients.stripe.invoices import InvoiceCalls
from billing.clients.stripe.portal import PortalCalls, PortalConfiguration
from billing.clients.stripe.transport import (
    API_VERSION,
    is_live_key,
    v1,
    with_idempotency_key,
)
from billing.clients.stripe.types import (
    BalanceTransaction,
    Card,
    CreditNote,
    Customer,
    Invoice,
    Item,
    Line,
    Subscription,
    read_card,
    read_customer,
    read_subscription,
)

__all__ = [
    "API_VERSION",
    "BalanceTransaction",
    "Card",
    "CreditNote",
    "Customer",
    "Invoice",
    "Item",
    "Line",
    "PortalConfiguration",
    "Stripe",
    "Subscription",
    "is_live_key",
]


class Stripe(InvoiceCalls, PortalCalls):
    """The calls we make. Each raises a `billing.exceptions.StripeError`."""

    # --- customers

    def create_customer(self, params: Mapping[str, Any], key: str) -> Customer:
        """Create a customer, once per idempotency key."""
        args, options = with_idempotency_key(params, key)
        return read_customer(self._call(lambda: v1().customers.create(args, options)))

    def get_customer(self, customer_id: str) -> Customer:
        """Return the customer, or its tombstone.

        Raises StripeNotFound when the account never had it: that proves nothing about
        a customer of ours, only that we are asking the wrong account.
        """
        found = self._call(lambda: v1().customers.retrieve(customer_id))
        return read_customer(found)

    def list_customers(self, *, email: str) -> list[Customer]:
        """Return the customers with exactly this e-mail, newest first."""
        pages = self._pages(
            lambda params: v1().customers.list(params), {"email": email, "limit": 100}
        )
        return [read_customer(found) for found in pages]

    def list_cards(self, customer_id: str) -> list[Card]:
        """Return the cards that are attached to a customer, newest first."""
        params: stripe.params.PaymentMethodListParams = {
            "customer": customer_id,
            "type": "card",
            "limit": 100,
        }
        pages = self._pages(lambda p: v1().payment_methods.list(p), params)
        cards = [read_card(found) for found in pages]
        return sorted(cards, key=lambda card: card.created, reverse=True)

    def set_default_card(self, customer_id: str, card_id: str) -> None:
        """Make a card the one that a customer's invoices are paid with."""
        settings = {"invoice_settings": {"default_payment_method": card_id}}
        args = cast(Any, settings)
        self._call(lambda: v1().customers.update(customer_id, args))

    # --- subscriptions

    def create_subscription(self, params: Mapping[str, Any], key: str) -> Subscription:
        """Create a subscription, once per idempotency key."""
        args, options = with_idempotency_key(params, key)
        created = self._call(lambda: v1().subscriptions.create(args, options))
        return read_subscription(created)

    def get_subscription(self, subscription_id: str) -> Subscription:
        """Return the subscription, an ended one too.

        Raises StripeNotFound when the account never had it.
        """
        found = self._call(lambda: v1().subscriptions.retrieve(subscription_id))
        return read_subscription(found)

    def list_subscriptions(
        self, *, customer: str, ended: bool = False
    ) -> list[Subscription]:
        """Return a customer's subscriptions, newest first; ended ones if asked."""
        params: stripe.params.SubscriptionListParams = {
            "customer": customer,
            "limit": 100,
        }
        if ended:
            params["status"] = "all"
        return [
            read_subscription(found)
            for found in self._pages(lambda p: v1().subscriptions.list(p), params)
        ]

    def update_subscription(
        self, subscription_id: str, params: Mapping[str, Any]
    ) -> Subscription:
        """Change a subscription. Absolute values only: a later call repeats it.

        The tries of one call share a key, so an item is added once.
        """
        args, options = with_idempotency_key(params, f"update:{uuid.uuid4()}")
        updated = self._call(
            lambda: v1().subscriptions.update(subscription_id, args, options)
        )
        return read_subscription(updated)

    def cancel_subscription(
        self, subscription_id: str, *, prorate: bool, invoice_now: bool
    ) -> None:
        """Cancel at once. Raises StripeNotFound when it has ended already."""
        self._call(
            lambda: v1().subscriptions.cancel(
                subscription_id, {"prorate": prorate, "invoice_now": invoice_now}
            )
        )

    # --- prices and the webhook endpoint, for `stripe_setup`

    def find_price(self, lookup_key: str) -> str | None:
        """Return the id of the active price with this lookup key."""
        page = self._call(
            lambda: v1().prices.list({"lookup_keys": [lookup_key], "active": True})
        )
        return page.data[0].id if page.data else None

    def create_price(self, params: Mapping[str, Any], key: str) -> str:
        """Create a price, once per idempotency key; returns its id."""
        args, options = with_idempotency_key(params, key)
        return str(self._call(lambda: v1().prices.create(args, options)).id)

    def find_webhook_endpoint(self, url: str) -> tuple[str, list[str]] | None:
        """Return the id and the event types of the enabled endpoint at this address."""
        page = self._call(lambda: v1().webhook_endpoints.list({"limit": 100}))
        for endpoint in page.data:
            if endpoint.url == url and endpoint.status == "enabled":
                return endpoint.id, list(endpoint.enabled_events)
        return None

    def set_webhook_events(self, endpoint_id: str, events: list[str]) -> None:
        """Set the event types that an endpoint is sent."""
        args = cast(Any, {"enabled_events": events})
        self._call(lambda: v1().webhook_endpoints.update(endpoint_id, args))

    def create_webhook_endpoint(self, url: str, events: list[str]) -> str:
        """Create an endpoint that speaks our API version; returns its secret."""
        params = {"url": url, "enabled_events": events, "api_version": API_VERSION}
        created = self._call(lambda: v1().webhook_endpoints.create(cast(Any, params)))
        return str(created.secret)
