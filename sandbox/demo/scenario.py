"""The demo: its tenants, their actions, and the amounts to check at the end.

Four tenants over two months. Each step is a tenant's action or a jump of the clock.
"""

import json
import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import Any

import requests
import stripe
from django.conf import settings
from django.utils import timezone

from billing.models import Credit, InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.dunning.suspension import tenants_to_review
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.encryption import Scheme, decrypt
from caravel.nostr.events import Event, parse_event, sign_event
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import get_pool
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay, RelaySync
from sandbox.clock import POLL_INTERVAL
from sandbox.demo.tenant_client import (
    PaymentPage,
    find_payment_url,
    list_receipts,
    request,
)
from sandbox.lightning.client import Control
from tenants.models import Notice, Tenant

#: Pays bolt11s by hand; it is not connected to any tenant.
ANONYMOUS_WALLET = "rich"
_MESSAGE_RELAYS, _GIFT_WRAP = 10050, 1059
State = InvoiceCollection.State


@dataclass
class DemoTenant:
    """A tenant of the demo: its key and the plans of its relays."""

    name: str
    plans: tuple[str, ...]
    secret_key: str = field(default_factory=generate_secret_key)

    @property
    def pubkey(self) -> str:
        return pubkey_of(self.secret_key)

    @property
    def wallet(self) -> str:
        return self.name.lower()

    @property
    def subdomains(self) -> list[str]:
        return [f"{self.wallet}-{number}" for number, _ in enumerate(self.plans, 1)]

    @property
    def customer(self) -> str:
        return str(Tenant.objects.get(pk=self.pubkey).stripe_customer_id)


class Demo:
    """The running system, as its tenants and its operator use it."""

    def __init__(self) -> None:
        self.lightning = Control(os.environ["SANDBOX_LIGHTNING"])
        self.stripe = stripe.StripeClient(
            settings.STRIPE_SECRET_KEY,
            base_addresses={"api": settings.STRIPE_API_BASE},
        ).v1

    def sign_up(self, tenant: DemoTenant) -> None:
        """Publish the tenant's message relays, register it and start its relays."""
        key, tags = tenant.secret_key, [("relay", relay.url) for relay in _relays()]
        event = sign_event(key, kind=_MESSAGE_RELAYS, content="", tags=tags)
        get_pool().publish(_relays(), event, timeout=5)
        request(key, "POST", "/api/tenants")
        for subdomain, plan in zip(tenant.subdomains, tenant.plans, strict=True):
            name = f"{tenant.name}'s relay"
            relay = {"subdomain": subdomain, "plan": plan, "name": name}
            request(key, "POST", "/api/relays", relay)

    def open_wallet(self, tenant: DemoTenant, sats: int = 200_000) -> None:
        """Create a wallet and connect it through the API."""
        url = self.lightning.post("wallets", name=tenant.wallet, sats=sats)["url"]
        path = f"/api/tenants/{tenant.pubkey}"
        request(tenant.secret_key, "PATCH", path, {"nwc_url": url})

    def set_wallet_behaviour(self, tenant: DemoTenant, kind: str) -> None:
        """Set how the tenant's wallet behaves from now on."""
        self.lightning.post(f"wallets/{tenant.wallet}/behaviour", kind=kind)

    def add_card(self, tenant: DemoTenant) -> None:
        """Save a card, as in Stripe's customer portal."""
        path = f"/_sandbox/customers/{tenant.customer}/cards"
        url = settings.STRIPE_API_BASE + path
        requests.post(url, json={"card": "pm_card_visa"}, timeout=20).raise_for_status()

    def pay_by_hand(self, tenant: DemoTenant) -> None:
        """Request the open invoice's bolt11 from the API and pay it."""
        path = f"/api/tenants/{tenant.pubkey}/invoices?status=open"
        (invoice,) = request(tenant.secret_key, "GET", path)
        path = f"/api/invoices/{invoice['id']}/bolt11"
        bolt11 = request(tenant.secret_key, "POST", path)["bolt11"]
        self.lightning.post(f"wallets/{ANONYMOUS_WALLET}/pay", bolt11=bolt11)

    def pay_on_payment_page(self, tenant: DemoTenant) -> None:
        """Follow the link in the last message and pay the bolt11 on the page."""
        bolt11 = PaymentPage(find_payment_url(self.messages(tenant)[-1])).press_pay()
        self.lightning.post(f"wallets/{ANONYMOUS_WALLET}/pay", bolt11=bolt11)

    def refund(self, tenant: DemoTenant, cents: int) -> None:
        """Refund a part of the tenant's last card payment, as in the dashboard."""
        charge = self.charges(tenant)[0].id
        self.stripe.refunds.create({"charge": charge, "amount": cents})

    def dispute(self, tenant: DemoTenant) -> None:
        """Have the bank dispute the tenant's last card payment."""
        path = f"/_sandbox/charges/{self.charges(tenant)[0].id}/dispute"
        url = settings.STRIPE_API_BASE + path
        requests.post(url, json={}, timeout=20).raise_for_status()

    def charges(self, tenant: DemoTenant) -> list[stripe.Charge]:
        """Return the charges of a tenant's cards, newest first."""
        params: Any = {"customer": tenant.customer, "limit": 100}
        return list(self.stripe.charges.list(params).data)

    def advance_clock(self, **delta: float) -> None:
        """Advance Stripe's clock, which all processes follow."""
        url = f"{settings.STRIPE_API_BASE}/_sandbox/clock/advance"
        seconds = int(timedelta(**delta).total_seconds())
        requests.post(url, json={"seconds": seconds}, timeout=60).raise_for_status()
        # The other processes read the new time at their next poll.
        time.sleep(5 * POLL_INTERVAL)

    def is_idle(self) -> bool:
        """Return whether no work is due now."""
        now = timezone.now()
        unfinished = (
            SubscriptionSync.objects.stale(),
            RelaySync.objects.stale(),
            StripeEvent.objects.received(),
            InvoiceCollection.objects.filter(enqueued_at__isnull=False),
            InvoiceCollection.objects.exclude(state__in=[State.CLOSED, State.MANUAL]),
            InvoiceCollection.objects.working().filter(next_attempt_at__lte=now),
            Credit.objects.owed(),
            NwcPayment.objects.pending(),
            LightningInvoice.objects.open(),
            Notice.objects.waiting(),
        )
        is_busy = any(rows.exists() for rows in unfinished)
        return not is_busy and not tenants_to_review(now)

    def messages(self, tenant: DemoTenant) -> list[str]:
        """Return a tenant's private messages, newest last."""
        filters = [{"kinds": [_GIFT_WRAP], "#p": [tenant.pubkey], "limit": 100}]
        wraps = get_pool().fetch(_relays(), filters, timeout=5).events
        messages = [_unwrap(tenant, wrap) for wrap in wraps]
        return [text for _, text in sorted(messages)]

    def invoices(self, tenant: DemoTenant) -> list[stripe.Invoice]:
        """Return a tenant's invoices in Stripe, oldest first."""
        params: Any = {"customer": tenant.customer, "limit": 100}
        return list(reversed(self.stripe.invoices.list(params).data))

    def subscriptions(self, tenant: DemoTenant, status: Any = "active") -> list[Any]:
        """Return a tenant's subscriptions in Stripe with a status, newest first."""
        params: Any = {"customer": tenant.customer, "status": status}
        return list(self.stripe.subscriptions.list(params).data)

    def seconds_until_renewal(self, *tenants: DemoTenant) -> float:
        """Return the time until the last of their subscriptions has renewed."""
        ends = [
            item.current_period_end
            for tenant in tenants
            for subscription in self.subscriptions(tenant)
            for item in subscription["items"].data
        ]
        return float(max(ends)) - timezone.now().timestamp()

    def count_missing_events(self) -> int:
        """Return the number of Stripe's events that Caravel has not received."""
        events = self.stripe.events.list({"limit": 100}).auto_paging_iter()
        ids = {event.id for event in events}
        return len(ids.difference(StripeEvent.objects.values_list("id", flat=True)))

    def card_payments_cents(self, tenant: DemoTenant) -> int:
        """Return the total charged to a tenant's cards, in cents."""
        params: Any = {"customer": tenant.customer, "limit": 100}
        intents = self.stripe.payment_intents.list(params).data
        return sum(i.amount_received for i in intents if i.status == "succeeded")

    def disputed_cents(self, tenant: DemoTenant) -> int:
        """Return the sum of a tenant's disputed card payments, in cents."""
        disputes = [
            dispute
            for charge in self.charges(tenant)
            if charge.disputed
            for dispute in self.stripe.disputes.list({"charge": charge.id}).data
        ]
        return sum(dispute.amount for dispute in disputes if dispute.status != "won")

    def is_platform_balanced(self) -> bool:
        """Return whether Caravel's own wallet has the sum of all settled invoices."""
        settled = LightningInvoice.objects.filter(state="settled")
        received = sum(settled.values_list("received_msat", flat=True))
        return bool(self.lightning.get("wallets/platform")["balance_msat"] == received)


@dataclass(frozen=True)
class TenantBalance:
    """A tenant's account at the end of the demo."""

    name: str
    #: In cents: billed, credited, paid by wallet, by card and by hand, refunded, taken
    #: back in disputes, open, receipts.
    amounts: dict[str, int]
    relays: str
    messages: int


def tenant_balance(demo: Demo, tenant: DemoTenant) -> TenantBalance:
    """Return a tenant's account, from Stripe's figures and Lightning payments."""
    invoices, receipts = demo.invoices(tenant), list_receipts(tenant.secret_key)
    settled = LightningInvoice.objects.filter(tenant=tenant.pubkey, state="settled")
    amounts = settled.values_list("amount_cents", flat=True)
    relays = Relay.objects.filter(tenant=tenant.pubkey)
    return TenantBalance(
        tenant.name,
        {
            "billed": sum(invoice.total for invoice in invoices),
            "credited": sum(i.pre_payment_credit_notes_amount for i in invoices),
            "wallet": sum(amounts.filter(payment__isnull=False)),
            "card": demo.card_payments_cents(tenant),
            "by hand": sum(amounts.filter(payment=None)),
            "refunded": sum(each.amount_refunded for each in demo.charges(tenant)),
            "disputed": demo.disputed_cents(tenant),
            "open": sum(invoice.amount_remaining for invoice in invoices),
            "receipts": sum(receipt["paid_cents"] for receipt in receipts),
        },
        relays=", ".join(f"{r.plan_id} {r.status}" for r in relays),
        messages=len(demo.messages(tenant)),
    )


def unused_cents(invoice: stripe.Invoice, ended_at: int) -> int:
    """Return an invoice's unused amount when its subscription ended, in cents.

    Computed from Stripe's lines, independently of the product's own calculation.
    """
    total = Fraction(0)
    for line in invoice.lines.data:
        length = line.period.end - line.period.start
        total += Fraction(line.amount * (line.period.end - ended_at), length)
    return round(total)


def _relays() -> list[Endpoint]:
    urls = settings.ROBOT_OUTBOX_RELAYS
    return [Endpoint(url, private_allowed=True) for url in urls]


def _unwrap(tenant: DemoTenant, wrap: Event) -> tuple[int, str]:
    """Return the time and the text of a gift-wrapped message (NIP-59)."""
    seal = parse_event(_decrypt(tenant, wrap.pubkey, wrap.content))
    message = _decrypt(tenant, seal.pubkey, seal.content)
    return int(message["created_at"]), str(message["content"])


def _decrypt(tenant: DemoTenant, pubkey: str, content: str) -> dict[str, Any]:
    text = decrypt(Scheme.NIP44, tenant.secret_key, pubkey, content)
    return dict(json.loads(text))
