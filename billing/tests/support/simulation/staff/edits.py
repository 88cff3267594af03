"""Edits of objects that Caravel made: metadata, a copied subscription, an address."""

from typing import Any

from billing.tests.support.simulation.actions import Payer
from billing.tests.support.simulation.staff.objects import (
    StaffAction,
    live_subscription,
    of_payer,
    request,
)
from billing.tests.support.simulation.system import System


def remove_metadata(system: System, payer: Payer, variant: int) -> None:
    """Remove all metadata of the subscription."""
    change: Any = {"metadata": ""}
    if subscription := live_subscription(system, payer):
        request(system.api.v1.subscriptions.update, subscription, change)


def duplicate_subscription(system: System, payer: Payer, variant: int) -> None:
    """Make a copy of the subscription, with its metadata."""
    subscription = live_subscription(system, payer)
    if subscription is None:
        return
    original = system.api.v1.subscriptions.retrieve(subscription)
    params: Any = {
        "customer": original.customer,
        "items": [
            {"price": item.price.id, "quantity": item.quantity}
            for item in original["items"].data
        ],
        "collection_method": "send_invoice",
        "days_until_due": 7,
        "metadata": original.metadata.to_dict(),
    }
    request(system.api.v1.subscriptions.create, params)
    newest = next(of_payer(system, payer, "subscription"))
    if newest["id"] != subscription:
        system.duplicates.add(newest["id"])


def change_address(system: System, payer: Payer, variant: int) -> None:
    """Change the customer's e-mail address."""
    customer = payer.tenant.stripe_customer_id
    change: Any = {"email": f"staff{variant}@example.com"}
    if customer:
        request(system.api.v1.customers.update, customer, change)


ACTIONS: tuple[StaffAction, ...] = (
    remove_metadata,
    duplicate_subscription,
    change_address,
)
