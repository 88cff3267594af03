"""What the demo does, and how it tells whether every figure is right.

Four tenants, two months: each deed is one that a person does, or that time does.
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
from billing.services.dunning.review import tenants_to_review
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.encryption import Scheme, decrypt
from caravel.nostr.events import Event, parse_event, sign_event
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import get_pool
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay
from sandbox.clock import POLL
from sandbox.lightning.client import Control
from sandbox.outside import ask, bolt11_on_page, payment_link, receipts
from tenants.models import Notice, Tenant

#: The deed that pays by hand is done from a wallet that is nobody's here.
PASSER_BY = "rich"
_MESSAGE_RELAYS, _GIFT_WRAP = 10050, 1059
State = InvoiceCollection.State


@dataclass
class Person:
    """One of the cast: a tenant's key, and what it runs."""

    name: str
    plans: tuple[str, ...]
    secret_key: str = field(default_factory=generate_secret_key)

    @property
    def pubkey(self) -> str:
        return pubkey_of(self.secret_key)

    @property
    def wallet(self) -> str:
        return self.name.lower()

    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.pubkey)


class World:
    """The running system, from where its people and its operator stand."""

    def __init__(self) -> None:
        self.lightning = Control(os.environ["SANDBOX_LIGHTNING"])
        self.stripe = stripe.StripeClient(
            settings.STRIPE_SECRET_KEY,
            base_addresses={"api": settings.STRIPE_API_BASE},
        ).v1

    # --- what people do

    def arrive(self, person: Person) -> None:
        """Become a tenant, say where one reads messages, and start relays."""
        self._announce(person)
        ask(person.secret_key, "POST", "/api/tenants")
        for number, plan in enumerate(person.plans, 1):
            wanted = {"subdomain": f"{person.wallet}-{number}", "plan": plan}
            ask(person.secret_key, "POST", "/api/relays", wanted)

    def open_wallet(self, person: Person, sats: int = 200_000) -> None:
        """Get a wallet and connect it."""
        self.lightning.post("wallets", name=person.wallet, sats=sats)
        self.connect(person)

    def connect(self, person: Person) -> None:
        """Connect one's wallet."""
        url = self.lightning.get(f"wallets/{person.wallet}")["url"]
        path = f"/api/tenants/{person.pubkey}"
        ask(person.secret_key, "PATCH", path, {"nwc_url": url})

    def behave(self, person: Person, kind: str) -> None:
        """Let a wallet behave otherwise from now on."""
        self.lightning.post(f"wallets/{person.wallet}/behaviour", kind=kind)

    def add_card(self, person: Person) -> None:
        """Save a card on Stripe's pages."""
        customer = person.tenant().stripe_customer_id
        url = f"{settings.STRIPE_API_BASE}/_sandbox/customers/{customer}/cards"
        requests.post(url, json={"card": "pm_card_visa"}, timeout=20).raise_for_status()

    def pay_by_hand(self, person: Person) -> None:
        """Ask the API for the open invoice's bolt11, and pay it from somewhere."""
        path = f"/api/tenants/{person.pubkey}/invoices?status=open"
        (unpaid,) = ask(person.secret_key, "GET", path)
        shown = ask(person.secret_key, "POST", f"/api/invoices/{unpaid['id']}/bolt11")
        self.lightning.post(f"wallets/{PASSER_BY}/pay", bolt11=shown["bolt11"])

    def pay_by_link(self, person: Person) -> None:
        """Follow the link in the last message, and pay what the page shows."""
        link = payment_link(self.messages(person)[-1])
        bolt11 = bolt11_on_page(link)
        self.lightning.post(f"wallets/{PASSER_BY}/pay", bolt11=bolt11)

    def pass_time(self, **delta: float) -> None:
        """Let so much time pass at Stripe, whose clock all others follow."""
        url = f"{settings.STRIPE_API_BASE}/_sandbox/clock/advance"
        seconds = int(timedelta(**delta).total_seconds())
        requests.post(url, json={"seconds": seconds}, timeout=60).raise_for_status()
        time.sleep(5 * POLL)

    # --- what is to be seen

    def is_quiet(self) -> bool:
        """Return whether nothing is left to be done now."""
        now = timezone.now()
        waiting = (
            SubscriptionSync.objects.stale(),
            StripeEvent.objects.received(),
            InvoiceCollection.objects.filter(enqueued_at__isnull=False),
            InvoiceCollection.objects.exclude(state__in=[State.CLOSED, State.MANUAL]),
            InvoiceCollection.objects.working().filter(next_attempt_at__lte=now),
            Credit.objects.owed(),
            NwcPayment.objects.pending(),
            LightningInvoice.objects.open(),
            Notice.objects.waiting(),
        )
        is_waiting = any(rows.exists() for rows in waiting)
        return not is_waiting and not tenants_to_review(now)

    def messages(self, person: Person) -> list[str]:
        """Return the private messages that a person finds, the newest last."""
        filters = [{"kinds": [_GIFT_WRAP], "#p": [person.pubkey], "limit": 100}]
        found = get_pool().fetch(_relays(), filters, timeout=5).events
        opened = [_open(person, event) for event in found]
        return [text for _, text in sorted(opened)]

    def invoices(self, person: Person) -> list[stripe.Invoice]:
        """Return a person's invoices at Stripe, the oldest first."""
        customer = str(person.tenant().stripe_customer_id)
        params: stripe.params.InvoiceListParams = {"customer": customer, "limit": 100}
        return list(reversed(self.stripe.invoices.list(params).data))

    def subscriptions(self, person: Person, status: Any = "active") -> list[Any]:
        """Return a person's subscriptions of a status at Stripe, the newest first."""
        customer = str(person.tenant().stripe_customer_id)
        listed = self.stripe.subscriptions.list(
            {"customer": customer, "status": status}
        )
        return list(listed.data)

    def lost_events(self) -> int:
        """Return how many of Stripe's events have not arrived here."""
        told = self.stripe.events.list({"limit": 100}).auto_paging_iter()
        ids = {event.id for event in told}
        return len(ids.difference(StripeEvent.objects.values_list("id", flat=True)))

    def charged_to_card(self, person: Person) -> int:
        """Return what a person's cards were charged in all, in cents."""
        customer = str(person.tenant().stripe_customer_id)
        intents = self.stripe.payment_intents.list({"customer": customer, "limit": 100})
        return sum(i.amount_received for i in intents.data if i.status == "succeeded")

    def sats_of_platform(self) -> int:
        """Return what our own wallet has by now, in msat."""
        return int(self.lightning.get("wallets/platform")["balance_msat"])

    def _announce(self, person: Person) -> None:
        tags = [("relay", endpoint.url) for endpoint in _relays()]
        event = sign_event(
            person.secret_key, kind=_MESSAGE_RELAYS, content="", tags=tags
        )
        get_pool().publish(_relays(), event, timeout=5)


@dataclass(frozen=True)
class Row:
    """One person's account at the end, in cents, and where it was read."""

    name: str
    billed: int
    credited: int
    card: int
    wallet: int
    by_hand: int
    open: int
    receipted: int
    relays: str
    messages: int

    @property
    def figures(self) -> tuple[int, ...]:
        """What was billed, credited, paid by card, wallet and hand, and is open."""
        paid = (self.card, self.wallet, self.by_hand)
        return (self.billed, self.credited, *paid, self.open)

    @property
    def balances(self) -> bool:
        """Whether all that was billed is credited, open, or paid with a receipt."""
        paid = self.card + self.wallet + self.by_hand
        due = self.billed - self.credited
        return due == paid + self.open and paid == self.receipted


def account(world: World, person: Person) -> Row:
    """Return a person's account: Stripe's figures, and what Lightning brought."""
    invoices = world.invoices(person)
    settled = LightningInvoice.objects.filter(tenant=person.pubkey, state="settled")
    asked = settled.filter(payment__isnull=False)
    relays = Relay.objects.filter(tenant=person.pubkey)
    return Row(
        name=person.name,
        billed=sum(invoice.total for invoice in invoices),
        credited=sum(i.pre_payment_credit_notes_amount for i in invoices),
        card=world.charged_to_card(person),
        wallet=sum(asked.values_list("amount_cents", flat=True)),
        by_hand=sum(
            settled.filter(payment=None).values_list("amount_cents", flat=True)
        ),
        open=sum(invoice.amount_remaining for invoice in invoices),
        receipted=sum(each["paid_cents"] for each in receipts(person.secret_key)),
        relays=", ".join(f"{r.plan_id} {r.status}" for r in relays),
        messages=len(world.messages(person)),
    )


def unserved(invoice: stripe.Invoice, ended_at: int) -> int:
    """Return what of an invoice was not served when its subscription ended, in cents.

    Worked out here once more, from Stripe's own lines.
    """
    total = Fraction(0)
    for line in invoice.lines.data:
        length = line.period.end - line.period.start
        total += Fraction(line.amount * (line.period.end - ended_at), length)
    return round(total)


def received_msat() -> int:
    """Return what our wallet must have: all that was settled."""
    settled = LightningInvoice.objects.filter(state="settled")
    return sum(settled.values_list("received_msat", flat=True))


def _relays() -> list[Endpoint]:
    urls = settings.ROBOT_OUTBOX_RELAYS
    return [Endpoint(url, private_allowed=True) for url in urls]


def _open(person: Person, wrap: Event) -> tuple[int, str]:
    """Return when a message was written, and what it says (NIP-59)."""
    seal = parse_event(_decrypted(person, wrap.pubkey, wrap.content))
    message = _decrypted(person, seal.pubkey, seal.content)
    return int(message["created_at"]), str(message["content"])


def _decrypted(person: Person, pubkey: str, content: str) -> dict[str, Any]:
    text = decrypt(Scheme.NIP44, person.secret_key, pubkey, content)
    return dict(json.loads(text))
