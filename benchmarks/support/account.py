"""Requests to the sandbox Stripe, one method per kind."""

import json
from itertools import count
from typing import Any

from benchmarks.support.wire import Wire

SUBSCRIPTION = {"collection_method": "send_invoice", "days_until_due": 7}


class Account:
    """A customer with subscriptions, on its own connection."""

    def __init__(self, wire: Wire, name: str, subscriptions: int = 10) -> None:
        self.wire = wire
        self.name = name
        self._numbers = count(1)
        self.price = self._post(
            "/v1/prices",
            {
                "currency": "usd",
                "unit_amount": 1000,
                "recurring[interval]": "month",
                "product_data[name]": "Relay",
            },
        )
        self.customer = self._post("/v1/customers", {"email": "ann@example.com"})
        self.drafts: list[str] = []
        self.items = [self._subscribe() for _ in range(subscriptions)]
        self.drafts.clear()

    def retrieve(self) -> None:
        """Retrieve a subscription: one request."""
        subscription, _ = self.items[next(self._numbers) % len(self.items)]
        self.wire.get(f"/v1/subscriptions/{subscription}")

    def list(self) -> None:
        """List ten invoices of a customer: one request."""
        self.wire.get(f"/v1/invoices?customer={self.customer}&limit=10")

    def create(self) -> None:
        """Create a subscription, with a draft invoice: one request."""
        self._subscribe()

    def update(self) -> None:
        """Set a quantity under an idempotency key: one request.

        Without prorations: the request creates only an event.
        """
        number = next(self._numbers)
        subscription, item = self.items[number % len(self.items)]
        form = {
            "items[0][id]": item,
            "items[0][quantity]": number % 97 + 1,
            "proration_behavior": "none",
        }
        path = f"/v1/subscriptions/{subscription}"
        self.wire.post(path, form, f"{self.name}-{number}")

    def settle(self) -> None:
        """Finalize a draft of `create` and mark it paid: two requests."""
        invoice = self.drafts.pop()
        self._post(f"/v1/invoices/{invoice}/finalize", {"auto_advance": "false"})
        self._post(f"/v1/invoices/{invoice}/pay", {"paid_out_of_band": "true"})

    def add_customer(self) -> None:
        """Create a customer: one request."""
        self._post("/v1/customers", {"email": "bob@example.com"})

    def _subscribe(self) -> tuple[str, str]:
        form = {
            **SUBSCRIPTION,
            "customer": self.customer,
            "items[0][price]": self.price,
            "expand[0]": "latest_invoice",
        }
        created = self._create("/v1/subscriptions", form)
        self.drafts.append(created["latest_invoice"]["id"])
        return created["id"], created["items"]["data"][0]["id"]

    def _post(self, path: str, form: dict[str, Any]) -> str:
        return str(self._create(path, form)["id"])

    def _create(self, path: str, form: dict[str, Any]) -> dict[str, Any]:
        key = f"{self.name}-{next(self._numbers)}"
        created: dict[str, Any] = json.loads(self.wire.post(path, form, key))
        return created
