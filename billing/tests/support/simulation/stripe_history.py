"""Events of Stripe, kept after it has deleted them."""

import json
from itertools import takewhile
from typing import Any

from sandbox.stripe.store.records import Record, Store

#: An event with its `data` parsed.
Event = dict[str, Any]


class StripeHistory:
    """All events about subscriptions and deleted items, and the owner of customers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last_event = ""
        self._owners: dict[str, str] = {}
        self.subscription_events: list[Event] = []
        self._deleted_items: list[Event] = []

    def save(self) -> None:
        """Save what is new: Stripe deletes events after a month."""
        self._save_owners()
        last = self._last_event
        new = list(
            takewhile(lambda event: event["id"] != last, self._store.scan("event"))
        )
        if new:
            self._last_event = new[0]["id"]
        for event in reversed(new):
            if event["type"].startswith("customer.subscription."):
                self.subscription_events.append(_parsed(event))
            elif event["type"] == "invoiceitem.deleted":
                self._deleted_items.append(_parsed(event))

    def owner_of(self, customer: str) -> str:
        """Return the pubkey of a customer's tenant, also if it is deleted; or ""."""
        if customer not in self._owners:
            self._save_owners()
        return self._owners.get(customer, "")

    def items_deleted_with(self, subscription: Record) -> list[Record]:
        """Return the pending prorations that the end of a subscription deleted."""
        self.save()
        return [
            event["data"]["object"]
            for event in self._deleted_items
            if event["created"] == subscription["ended_at"]
            and _subscription_of(event["data"]["object"]) == subscription["id"]
        ]

    def _save_owners(self) -> None:
        for customer in self._store.scan("customer"):
            pubkey = (customer.get("metadata") or {}).get("tenant_pubkey")
            if pubkey:
                self._owners[customer["id"]] = pubkey


def _parsed(event: Record) -> Event:
    return {**event, "data": json.loads(event["_data"])}


def _subscription_of(item: Record) -> str | None:
    details = (item["parent"] or {}).get("subscription_details") or {}
    subscription: str | None = details.get("subscription")
    return subscription
