"""What the demo does, and how it tells whether relays, Stripe and webhooks agree."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from billing.clients.stripe import Stripe
from billing.models import StripeEvent, SubscriptionSync
from billing.services.convergence import LIVE, desired_items
from billing.services.events import HANDLERS
from caravel.nostr import generate_secret_key, pubkey_of
from lightning.models import NwcPayment
from lightning.services.invoices import Bill
from lightning.services.payments import start_payment
from lightning.services.wallets import connect_wallet
from relays.models import Plan, Relay
from relays.services import lifecycle
from sandbox.lightning.client import Control
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant

CAST = {
    "Alice": ["basic"],
    "Bob": ["basic", "basic"],
    "Carol": ["growth"],
    "Dave": ["basic", "growth"],
    "Erin": ["free"],
    "Frank": ["basic", "basic", "basic"],
}


def create_cast() -> None:
    """Create the tenants, each with its relays."""
    for name, plans in CAST.items():
        tenant, _ = get_or_create_tenant(pubkey=pubkey_of(generate_secret_key()))
        update_tenant(pubkey=tenant.pk, display_name=name)
        for number, plan in enumerate(plans, 1):
            lifecycle.create_relay(
                tenant_id=tenant.pk, subdomain=f"{name}-{number}", plan_id=plan
            )


def relays_of(name: str) -> list[Relay]:
    """Return one person's relays, the first created first."""
    return list(Relay.objects.filter(tenant__display_name=name))


def upgrade(name: str) -> None:
    """Move a first relay from Basic to Growth."""
    lifecycle.change_plan(relay_id=relays_of(name)[0].pk, plan_id="growth")


def switch_off(name: str) -> None:
    """Deactivate all relays: the subscription ends."""
    for relay in relays_of(name):
        lifecycle.deactivate_relay(relay_id=relay.pk)


def change_a_lot(name: str) -> int:
    """Make 50 changes in one burst, with one relay less at their end."""
    first, second, *_ = relays_of(name)
    for _ in range(12):
        lifecycle.change_plan(relay_id=first.pk, plan_id="growth")
        lifecycle.deactivate_relay(relay_id=second.pk)
        lifecycle.change_plan(relay_id=first.pk, plan_id="basic")
        lifecycle.activate_relay(relay_id=second.pk)
    lifecycle.change_plan(relay_id=first.pk, plan_id="growth")
    lifecycle.deactivate_relay(relay_id=second.pk)
    return 50


def connect_wallet_of(name: str) -> None:
    """Give a person a wallet of the sandbox's, and connect it."""
    control = Control(os.environ["SANDBOX_LIGHTNING"])
    wallet = control.post("wallets", name=name.lower(), sats=100_000)
    connect_wallet(pubkey=_tenant(name).pk, nwc_url=wallet["url"])


def ask_wallet_of(name: str) -> None:
    """Have a person's wallet asked for $5, as for an invoice of Stripe's."""
    bill = Bill(
        tenant_id=_tenant(name).pk,
        stripe_invoice_id=f"in_{name.lower()}",
        amount_cents=500,
        currency="usd",
        description=f"Relays of {name}",
    )
    start_payment(bill=bill)


def wallets_have_answered() -> bool:
    """Return whether no payment is under way any more."""
    return not NwcPayment.objects.pending().exists()


def is_quiet() -> bool:
    """Return whether every tenant is in step and every event is processed."""
    stale = SubscriptionSync.objects.stale().exists()
    return not stale and not StripeEvent.objects.received().exists()


@dataclass(frozen=True)
class Row:
    """One tenant, here and at Stripe; the items are quantities by plan."""

    name: str
    relays: Counter[str]
    here: dict[str, int]
    at_stripe: list[dict[str, int]]
    events: int

    @property
    def agrees(self) -> bool:
        """Whether there is just the one subscription that there should be, or none."""
        return self.at_stripe == ([self.here] if self.here else [])


def compare_all() -> Iterator[Row]:
    """Yield what is here and what Stripe answers, tenant by tenant."""
    stripe = Stripe()
    plans = dict(Plan.objects.paid().values_list("stripe_price_id", "id"))
    events = Counter(map(_customer, StripeEvent.objects.all()))
    for tenant in Tenant.objects.prefetch_related("relays"):
        customer = tenant.stripe_customer_id
        found = stripe.list_subscriptions(customer=customer) if customer else []
        yield Row(
            name=str(tenant),
            relays=Counter(map(_describe, tenant.relays.all())),
            here={plans[price]: n for price, n in desired_items(tenant.pk).items()},
            at_stripe=[
                {plans[item.price]: item.quantity or 0 for item in sub.items}
                for sub in found
                if sub.status in LIVE
            ],
            events=events[customer or ""],
        )


@dataclass(frozen=True)
class Tally:
    """What the webhooks told of, and what wallets paid."""

    events: int
    handled: int
    upgrades: int
    cancellations: int
    payments: int


def tally() -> Tally:
    """Count the events received, by what they tell, and the payments of wallets."""
    events = list(StripeEvent.objects.all())
    return Tally(
        events=len(events),
        handled=sum(event.type in HANDLERS for event in events),
        upgrades=sum(map(_is_upgrade, events)),
        cancellations=sum(e.type == "customer.subscription.deleted" for e in events),
        payments=NwcPayment.objects.filter(state=NwcPayment.State.PAID).count(),
    )


def _tenant(name: str) -> Tenant:
    return Tenant.objects.get(display_name=name)


def _describe(relay: Relay) -> str:
    is_active = relay.status == Relay.Status.ACTIVE
    return relay.plan_id if is_active else f"{relay.plan_id} ({relay.status})"


def _customer(event: StripeEvent) -> str:
    found = event.data["object"]
    return str(found["id"] if found["object"] == "customer" else found.get("customer"))


def _is_upgrade(event: StripeEvent) -> bool:
    """Return whether the dearest item is dearer than before."""
    if event.type != "customer.subscription.updated":
        return False
    data: dict[str, Any] = json.loads(event.body)["data"]
    before = (data.get("previous_attributes") or {}).get("items")
    if not before:
        return False
    was, now = _amounts(before["data"]), _amounts(data["object"]["items"]["data"])
    return max(now) > max(was)


def _amounts(items: list[dict[str, Any]]) -> list[int]:
    return [item["price"]["unit_amount"] for item in items]
