"""Stripe's subscriptions: https://docs.stripe.com/api/subscriptions."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import stripe

from billing.clients.stripe.transport import (
    StripeTransport,
    get_raw,
    read_nothing,
    v1,
    with_idempotency_key,
)
from billing.clients.stripe.types import (
    Discount,
    Subscription,
    read_discounts,
    read_listed_subscription,
    read_subscription,
)

#: The most that Stripe returns: https://docs.stripe.com/api/pagination
PAGE_SIZE = 100


@dataclass(frozen=True)
class SubscriptionPage:
    """A page of the list of all subscriptions; `last_id` is "" on the last one."""

    subscriptions: list[Subscription]
    last_id: str


class Subscriptions:
    """Calls on subscriptions."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def create(self, params: Mapping[str, Any], key: str) -> Subscription:
        """Create a subscription, once per idempotency key."""
        args, options = with_idempotency_key(params, key)
        return self._transport.call(
            lambda: v1().subscriptions.create(args, options), read_subscription
        )

    def get(self, subscription_id: str) -> Subscription:
        """Return a subscription, also an ended one.

        Raises StripeNotFound if the account never had it.
        """
        return self._transport.call(
            lambda: v1().subscriptions.retrieve(subscription_id), read_subscription
        )

    def list_discounts(self, subscription_id: str) -> list[Discount]:
        """Return the discounts of a subscription."""
        return self._transport.call(
            lambda: v1().subscriptions.retrieve(
                subscription_id, {"expand": ["discounts"]}
            ),
            read_discounts,
        )

    def update(self, subscription_id: str, params: Mapping[str, Any]) -> Subscription:
        """Update a subscription. Pass absolute values, so that a retry is harmless.

        All tries of one call share an idempotency key, so an item is added once.
        """
        args, options = with_idempotency_key(params, f"update:{uuid.uuid4()}")
        return self._transport.call(
            lambda: v1().subscriptions.update(subscription_id, args, options),
            read_subscription,
        )

    def cancel(self, subscription_id: str, *, prorate: bool, invoice_now: bool) -> None:
        """Cancel now. Raises StripeNotFound if the subscription has ended."""
        self._transport.call(
            lambda: v1().subscriptions.cancel(
                subscription_id, {"prorate": prorate, "invoice_now": invoice_now}
            ),
            read_nothing,
        )

    def list_page(
        self, *, created: Mapping[str, int], starting_after: str = ""
    ) -> SubscriptionPage:
        """Return a page of the subscriptions of all customers, newest first.

        As `list`, without ended ones. Raises StripeRefused with the param
        `starting_after` if the cursor's subscription was deleted.
        """
        params: dict[str, Any] = {"limit": PAGE_SIZE}
        if created:
            params["created"] = dict(created)
        if starting_after:
            params["starting_after"] = starting_after
        return self._transport.call(
            lambda: get_raw("/v1/subscriptions", params), _read_page
        )

    def list(self, *, customer: str, ended: bool = False) -> list[Subscription]:
        """Return a customer's subscriptions, newest first, with ended ones if asked."""
        params: stripe.params.SubscriptionListParams = {
            "customer": customer,
            "limit": 100,
        }
        if ended:
            params["status"] = "all"
        pages = self._transport.paginate(
            lambda p: v1().subscriptions.list(p), params, read_subscription
        )
        return list(pages)


def _read_page(page: Any) -> SubscriptionPage:
    found = [read_listed_subscription(each) for each in page.data]
    has_more = page.has_more and found
    return SubscriptionPage(found, found[-1].id if has_more else "")
