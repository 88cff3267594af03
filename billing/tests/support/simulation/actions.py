"""What people do to a world: tenants, their wallets and banks, support, Stripe."""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from billing.models import InvoiceCollection
from billing.services.collection.attempts import collect_now
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.tests.support.simulation.system import World, refused
from billing.tests.support.workers import Killed
from caravel.core.exceptions import CaravelError
from caravel.nostr import pubkey_of
from lightning.models import LightningInvoice
from lightning.services.wallets import connect_wallet, disconnect_wallet
from relays.models import Relay
from relays.services import lifecycle
from sandbox.stripe.objects import hosted
from sandbox.stripe.protocol.errors import StripeError
from sandbox.wallets import Wallet
from sandbox.wallets.behaviour import PAYS, PaymentBehaviour
from sandbox.wallets.ledger import NotPaid
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant

#: No two wallets have one name, in whatever world.
_numbers = itertools.count(1)


@dataclass
class Payer:
    """A tenant, and the wallets that were ever its own; the last one is connected."""

    pubkey: str
    wallets: list[Wallet] = field(default_factory=list)

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.pubkey)

    @property
    def relays(self) -> list[Relay]:
        return list(Relay.objects.filter(tenant=self.pubkey).order_by("subdomain"))

    @property
    def unpaid(self) -> list[InvoiceCollection]:
        rows = InvoiceCollection.objects.filter(tenant=self.pubkey).unpaid()
        return list(rows.order_by("created_at", "pk"))


class People:
    """Everybody who acts upon a world. What is refused to them is so."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.payers: list[Payer] = []
        self._relays = itertools.count(1)

    # --- tenants

    def move_in(
        self,
        *,
        plan: str = "basic",
        wallet: PaymentBehaviour | None = None,
        card: str = "",
    ) -> Payer:
        """A tenant comes with one relay, and with a wallet or a card if it has one."""
        secret = hashlib.sha256(f"payer {len(self.payers)}".encode()).hexdigest()
        payer = Payer(pubkey_of(secret))
        get_or_create_tenant(pubkey=payer.pubkey)
        self.payers.append(payer)
        if wallet is not None:
            self.connect(payer, wallet)
        self.add_relay(payer, plan)
        if card:
            self._await_customer(payer)
            self.attach(payer, card)
        return payer

    def _await_customer(self, payer: Payer) -> None:
        self.world.run()
        for _ in range(10):
            if payer.tenant.stripe_customer_id:
                return
            self.world.advance(timedelta(minutes=6))

    def add_relay(self, payer: Payer, plan: str = "basic") -> None:
        name = f"relay{next(self._relays)}"
        self._try(
            lambda: lifecycle.create_relay(
                tenant_id=payer.pubkey, subdomain=name, plan_id=plan
            )
        )

    def change_plan(self, relay: UUID, plan: str) -> None:
        self._try(lambda: lifecycle.change_plan(relay_id=relay, plan_id=plan))

    def switch_on(self, relay: UUID) -> None:
        self._try(lambda: lifecycle.activate_relay(relay_id=relay))

    def switch_off(self, relay: UUID) -> None:
        self._try(lambda: lifecycle.deactivate_relay(relay_id=relay))

    def set_switches(self, payer: Payer, **switches: bool) -> None:
        self._try(lambda: update_tenant(pubkey=payer.pubkey, **switches))

    # --- wallets

    def connect(self, payer: Payer, behaviour: PaymentBehaviour = PAYS) -> None:
        """A wallet with more than enough takes the place of the one before."""
        name = f"payer-{next(_numbers)}"
        wallet = self.world.wallets.create(name, balance_msat=10**12)
        wallet.behaviour = behaviour
        payer.wallets.append(wallet)
        self._try(lambda: connect_wallet(pubkey=payer.pubkey, nwc_url=wallet.url))

    def disconnect(self, payer: Payer) -> None:
        disconnect_wallet(pubkey=payer.pubkey)

    def come_back(self, payer: Payer) -> None:
        """Wallets that were off run what the relay kept for them, however old."""
        for wallet in payer.wallets:
            if not wallet.is_listening:
                wallet.go_online(heeds_expiration=False)

    # --- Stripe's pages

    def attach(self, payer: Payer, card: str) -> None:
        """A card is attached; nobody chooses it as the default."""
        self._at_stripe(
            payer,
            lambda customer: self.world.api.v1.payment_methods.attach(
                card, {"customer": customer}
            ),
        )

    def detach_cards(self, payer: Payer) -> None:
        def detach(customer: str) -> None:
            listed = self.world.api.v1.payment_methods.list(
                {"customer": customer, "type": "card"}
            )
            for card in listed.data:
                self.world.api.v1.payment_methods.detach(card.id)

        self._at_stripe(payer, detach)

    def pay_on_page(self, invoice: str, card: str = "pm_card_visa") -> None:
        """A person pays on the hosted page, and passes the bank's challenge."""
        try:
            self.world.stripe.app.transact(
                lambda context: hosted.pay(
                    context, invoice, card, challenge="succeeded"
                )
            )
        except StripeError as exc:
            assert exc.status in (400, 402)

    # --- Lightning by hand

    def ask_for_bolt11(self, invoice: str) -> LightningInvoice | None:
        """A person asks for a Lightning invoice; None if there is none to be had."""
        try:
            with self.world.workers.at_work():
                return get_or_issue_bolt11(invoice_id=invoice)
        except (CaravelError, Killed):
            return None

    def pay_shown(self, newest: bool = True) -> bool:
        """A stranger pays a bolt11 that was shown; False if none can be paid."""
        shown = LightningInvoice.objects.exclude(shown_at=None)
        bolt11 = shown.order_by("-pk" if newest else "pk").first()
        if bolt11 is None:
            return False
        try:
            self._stranger().pay(bolt11.bolt11)
        except NotPaid:
            return False
        return True

    def _stranger(self) -> Wallet:
        return self.world.wallets.create("stranger", balance_msat=10**15)

    # --- support

    def press_collect(self, invoice: str) -> None:
        self._try(lambda: collect_now(invoice_id=invoice))

    def void(self, invoice: str) -> None:
        self._favour(invoice)
        refused(lambda: self.world.api.v1.invoices.void_invoice(invoice))

    def write_off(self, invoice: str) -> None:
        refused(lambda: self.world.api.v1.invoices.mark_uncollectible(invoice))

    def credit(self, invoice: str, amount: int) -> None:
        self._favour(invoice)
        note: Any = {"invoice": invoice, "amount": amount}
        refused(lambda: self.world.api.v1.credit_notes.create(note))

    def move_suspension(self, invoice: str, by: timedelta) -> None:
        row = InvoiceCollection.objects.get(pk=invoice)
        if by > timedelta(0):
            self._favour(invoice)
        if row.suspend_at:
            rows = InvoiceCollection.objects.filter(pk=invoice)
            rows.update(suspend_at=row.suspend_at + by)

    def _favour(self, invoice: str) -> None:
        self.world.favour(InvoiceCollection.objects.get(pk=invoice).tenant_id)

    def cancel_at_stripe(self, payer: Payer) -> None:
        subscription = payer.tenant.stripe_subscription_id
        if subscription:
            store = self.world.stripe.app.store
            if any(store.scan("invoiceitem", index=("_pending", subscription))):
                self.world.favour(payer.pubkey)
            refused(lambda: self.world.api.v1.subscriptions.cancel(subscription))

    def delete_customer(self, payer: Payer) -> None:
        self.world.favour(payer.pubkey)
        self._at_stripe(payer, self.world.api.v1.customers.delete)

    # --- the end

    def move_out(self) -> None:
        """Everybody switches off what costs, and no time is paid for any more."""
        for relay in Relay.objects.paid().exclude(status=Relay.Status.INACTIVE):
            self.switch_off(relay.pk)

    # ---

    def _at_stripe(self, payer: Payer, work: Callable[[str], object]) -> None:
        customer = payer.tenant.stripe_customer_id
        if customer:
            refused(lambda: work(customer))

    def _try(self, deed: Callable[[], object]) -> None:
        """Do what we may refuse, in a web process that may be killed."""
        try:
            with self.world.workers.at_work():
                deed()
        except (CaravelError, Killed):
            return
