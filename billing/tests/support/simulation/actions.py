"""Actions of tenants, wallets, support and Stripe users in a simulated system."""

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
from billing.tests.support.simulation.system import System, is_refused
from billing.tests.support.workers import Killed
from caravel.core.exceptions import CaravelError
from caravel.nostr import pubkey_of
from lightning.models import LightningInvoice
from lightning.services.wallets import connect_wallet, disconnect_wallet
from relays.models import Relay
from relays.services import lifecycle
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.wallets import Wallet
from sandbox.wallets.behaviour import PAYS, PaymentBehaviour
from sandbox.wallets.ledger import NotPaid
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant

#: Wallet names are unique across systems, which share the wallet server.
_wallet_numbers = itertools.count(1)


@dataclass
class Payer:
    """A tenant and all wallets that it has had; the last one is connected."""

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


class Actions:
    """Actions on a system. Refusals and kills are ignored: they are allowed results."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.payers: list[Payer] = []
        self._relays = itertools.count(1)

    # --- tenants

    def add_tenant(
        self,
        *,
        plan: str = "basic",
        wallet: PaymentBehaviour | None = None,
        card: str = "",
    ) -> Payer:
        """Add a tenant with one relay and, if given, a wallet or a card."""
        secret = hashlib.sha256(f"payer {len(self.payers)}".encode()).hexdigest()
        payer = Payer(pubkey_of(secret))
        get_or_create_tenant(pubkey=payer.pubkey)
        self.payers.append(payer)
        if wallet is not None:
            self.connect_wallet(payer, wallet)
        self.add_relay(payer, plan)
        if card:
            self._wait_for_customer(payer)
            self.attach_card(payer, card)
        return payer

    def _wait_for_customer(self, payer: Payer) -> None:
        self.system.run()
        for _ in range(10):
            if payer.tenant.stripe_customer_id:
                return
            self.system.advance(timedelta(minutes=6))

    def add_relay(self, payer: Payer, plan: str = "basic") -> None:
        name = f"relay{next(self._relays)}"
        self._in_web_process(
            lambda: lifecycle.create_relay(
                tenant_id=payer.pubkey, subdomain=name, plan_id=plan
            )
        )

    def change_plan(self, relay: UUID, plan: str) -> None:
        self._in_web_process(
            lambda: lifecycle.change_plan(relay_id=relay, plan_id=plan)
        )

    def activate_relay(self, relay: UUID) -> None:
        self._in_web_process(lambda: lifecycle.activate_relay(relay_id=relay))

    def deactivate_relay(self, relay: UUID) -> None:
        self._in_web_process(lambda: lifecycle.deactivate_relay(relay_id=relay))

    def update_settings(self, payer: Payer, **switches: bool) -> None:
        self._in_web_process(lambda: update_tenant(pubkey=payer.pubkey, **switches))

    # --- wallets

    def connect_wallet(self, payer: Payer, behaviour: PaymentBehaviour = PAYS) -> None:
        """Connect a new wallet with ample balance."""
        name = f"payer-{next(_wallet_numbers)}"
        wallet = self.system.wallets.create(name, balance_msat=10**12)
        wallet.behaviour = behaviour
        payer.wallets.append(wallet)
        self._in_web_process(
            lambda: connect_wallet(pubkey=payer.pubkey, nwc_url=wallet.url)
        )

    def disconnect_wallet(self, payer: Payer) -> None:
        disconnect_wallet(pubkey=payer.pubkey)

    def bring_wallets_online(self, payer: Payer) -> None:
        """Bring offline wallets back; they handle old requests kept by the relay."""
        for wallet in payer.wallets:
            if not wallet.is_listening:
                wallet.go_online(heeds_expiration=False)

    # --- Stripe's pages

    def attach_card(self, payer: Payer, card: str) -> None:
        """Attach a card without making it the default."""
        self._at_stripe(
            payer,
            lambda customer: self.system.api.v1.payment_methods.attach(
                card, {"customer": customer}
            ),
        )

    def detach_cards(self, payer: Payer) -> None:
        def detach(customer: str) -> None:
            listed = self.system.api.v1.payment_methods.list(
                {"customer": customer, "type": "card"}
            )
            for card in listed.data:
                self.system.api.v1.payment_methods.detach(card.id)

        self._at_stripe(payer, detach)

    def pay_on_page(self, invoice: str, card: str = "pm_card_visa") -> None:
        """Pay on Stripe's hosted page and pass the 3-D Secure challenge."""
        try:
            with self.system.paid_by_the_payer():
                self.system.stripe.app.transact(
                    lambda context: hosted_actions.pay(
                        context, invoice, card, challenge="succeeded"
                    )
                )
        except StripeError as exc:
            assert exc.status in (400, 402)

    # --- Lightning by hand

    def request_bolt11(self, invoice: str) -> LightningInvoice | None:
        """Request a bolt11 as the payer. Returns None if refused."""
        try:
            with self.system.workers.in_process():
                return get_or_issue_bolt11(invoice_id=invoice)
        except (CaravelError, Killed):
            return None

    def pay_presented_bolt11(self, newest: bool = True) -> bool:
        """Pay a presented bolt11 from another wallet. False if none can be paid."""
        presented = LightningInvoice.objects.exclude(shown_at=None)
        bolt11 = presented.order_by("-pk" if newest else "pk").first()
        if bolt11 is None:
            return False
        try:
            self._stranger_wallet().pay(bolt11.bolt11)
        except NotPaid:
            return False
        return True

    def _stranger_wallet(self) -> Wallet:
        return self.system.wallets.create("stranger", balance_msat=10**15)

    # --- support

    def collect_now(self, invoice: str) -> None:
        self._in_web_process(lambda: collect_now(invoice_id=invoice))

    def void_invoice(self, invoice: str) -> None:
        is_refused(lambda: self.system.api.v1.invoices.void_invoice(invoice))

    def mark_uncollectible(self, invoice: str) -> None:
        is_refused(lambda: self.system.api.v1.invoices.mark_uncollectible(invoice))

    def create_credit_note(self, invoice: str, amount: int) -> None:
        note: Any = {"invoice": invoice, "amount": amount}
        is_refused(lambda: self.system.api.v1.credit_notes.create(note))

    def move_suspend_at(self, invoice: str, by: timedelta) -> None:
        row = InvoiceCollection.objects.get(pk=invoice)
        if by > timedelta(0):
            self.system.tenants_with_more_grace.add(row.tenant_id)
        if row.suspend_at:
            rows = InvoiceCollection.objects.filter(pk=invoice)
            rows.update(suspend_at=row.suspend_at + by)

    def cancel_at_stripe(self, payer: Payer) -> None:
        subscription = payer.tenant.stripe_subscription_id
        if subscription:
            self.system.exclude_if_prorations_are_lost(payer.pubkey, subscription)
            self.system.holds.end(subscription)
            is_refused(lambda: self.system.api.v1.subscriptions.cancel(subscription))

    def delete_customer(self, payer: Payer) -> None:
        self.system.exclude_from_balance(payer.pubkey)
        self.system.history.save()
        self.system.holds.end(payer.tenant.stripe_subscription_id or "")
        self._at_stripe(payer, self.system.api.v1.customers.delete)

    # --- the end of a simulation

    def deactivate_all_relays(self) -> None:
        """Deactivate all paid relays, so no more time is billed."""
        for relay in Relay.objects.paid().exclude(status=Relay.Status.INACTIVE):
            self.deactivate_relay(relay.pk)

    # --- helpers

    def _at_stripe(self, payer: Payer, request: Callable[[str], object]) -> None:
        customer = payer.tenant.stripe_customer_id
        if customer:
            is_refused(lambda: request(customer))

    def _in_web_process(self, action: Callable[[], object]) -> None:
        """Run an action in a web process that may be killed; ignore refusals."""
        try:
            with self.system.workers.in_process():
                action()
        except (CaravelError, Killed):
            return
