"""What a cell stands for, as rows here and objects at Stripe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import CardAttempt, InvoiceCollection, Settlement, StripeEvent
from billing.services.collection.collect import collect_invoice
from billing.services.customers.catalog import ensure_prices
from billing.services.dunning.review import end_grace_now
from billing.services.invoices.records import record_and_enqueue
from billing.services.subscriptions.sync import sync_tenant
from billing.tasks import process_stripe_event
from billing.tests.factories import StripeEventFactory
from billing.tests.support.event_matrix.cases import (
    Attempt,
    Bill,
    Cell,
    Event,
    Offer,
    Payer,
    Plan,
)
from billing.tests.support.event_matrix.fake_worker import Worker, rolled_back
from billing.tests.support.workers import Killed
from caravel.nostr import pubkey_of
from lightning.clients.nwc_replies import Issued
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.own_wallets import issuing_wallet
from lightning.tests.factories import make_invoice
from relays.models import Relay
from relays.services.lifecycle import activate_relay, create_relay, deactivate_relay
from sandbox.stripe.objects import hosted
from sandbox.stripe.testing import Sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.wallets.bolt11 import make_bolt11, make_preimage
from sandbox.wallets.keys import Keys, connection_url, keys_of
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant

START = datetime(2027, 4, 1, 9, tzinfo=UTC)
#: How long the invoice has been open: three rungs of its ladder are behind.
OPEN_FOR = timedelta(days=3, hours=12)
#: Longer than a message may be under way, and a lease be held.
_LATER = timedelta(minutes=6)
CARD_KEY = "caravel:pay:table"
PUBKEY = pubkey_of("1" * 64)
_OURS, _THEIRS = keys_of("table", "platform"), keys_of("table", "tenant")

Action = InvoiceCollection.Action
State = InvoiceCollection.State


def wallet_url(keys: Keys) -> str:
    return connection_url(keys, ["wss://relay.example"])


def issue(wallet: Any, *, amount_msat: int, description: str, expiry: int) -> Issued:
    """What our own wallet would answer: a bolt11 that is signed like any other."""
    payment_hash = make_preimage().hash
    bolt11 = make_bolt11(
        node_key=_OURS.node,
        payment_hash=payment_hash,
        amount_msat=amount_msat,
        expiry=expiry,
        description=description,
        created_at=int(timezone.now().timestamp()),
    )
    return Issued(bolt11, payment_hash)


class Stage:
    """A tenant with one invoice, of which each cell makes what it needs, and undoes it.

    `subscription_id` is the one that the invoice is of.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        traveller: time_machine.Traveller,
        worker: Worker,
        *,
        is_draft: bool,
        plan: Plan,
    ) -> None:
        self.sandbox, self.worker = sandbox, worker
        self.plan, self._is_draft = plan, is_draft
        self.api = in_process_client(sandbox.app)
        self._traveller = traveller
        self._build()
        self.remaining = self.row.amount_remaining_cents
        self._now = timezone.now()
        sandbox.snapshot("table")

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=PUBKEY)

    @property
    def row(self) -> InvoiceCollection:
        return InvoiceCollection.objects.get(pk=self.invoice_id)

    @contextmanager
    def set_for(self, cell: Cell, *others: Event) -> Iterator[None]:
        """Make a cell, and undo whatever is done within the block.

        What its event tells of has happened at Stripe, and what `others` tell of.
        """
        self.worker.die_at(None)
        self._traveller.move_to(self._now)
        self.sandbox.restore("table")
        with rolled_back():
            self._set(cell)
            for event in sorted({cell.event, *others}, key=list(Event).index):
                self._do(event)
            self.worker.forget()
            self.worker.die_at(None)
            yield
        self.worker.forget()

    # --- what is done to a cell

    def tell(self, event: Event) -> StripeEvent:
        """Have an event of Stripe's be in the inbox, and a message about it sent."""
        what, previous = self._told(event)
        stored: StripeEvent = StripeEventFactory(
            type=event.value, object=what, previous=previous
        )
        self.worker.enqueue(process_stripe_event, stored.pk)
        return stored

    def tell_again(self, told: StripeEvent) -> None:
        """Have the same event come once more."""
        self.worker.enqueue(process_stripe_event, told.pk)

    def unprocessed(self) -> list[str]:
        """Return in words what events were not processed."""
        left = StripeEvent.objects.exclude(status=StripeEvent.Status.PROCESSED)
        # Of a customer that was deleted and forgotten nothing is done for an hour.
        left = left.exclude(last_error_code="customer-unknown")
        return [f"{one.type} is {one.status}: {one.last_error}" for one in left]

    def work(self) -> None:
        """Work off all messages."""
        self.worker.work()

    def wait(self) -> None:
        """Let some time pass, in which the beat finds what was lost."""
        for _ in range(2):
            self._traveller.shift(_LATER)
            self.sandbox.advance(0)
            self.worker.sweep()

    def work_and_die(self, point: int) -> bool:
        """Work until a point is reached, and die there, all messages lost with it."""
        self.worker.die_at(point)
        try:
            self.worker.work()
        except Killed:
            return True
        finally:
            self.worker.die_at(None)
            self.worker.forget()
        return False

    # --- the tenant before the cell

    def _build(self) -> None:
        self._traveller.move_to(START)
        ensure_prices(Stripe())
        get_or_create_tenant(pubkey=PUBKEY)
        create_relay(tenant_id=PUBKEY, subdomain="table", plan_id="basic")
        self._sync()
        (first,) = InvoiceCollection.objects.all()
        self.invoice_id, self.subscription_id = first.pk, first.stripe_subscription_id
        self.customer_id = first.stripe_customer_id
        if not self._is_draft:
            finalized = Stripe().finalize_invoice(first.pk)
            record_and_enqueue(finalized, self.tenant, since=first.revision)
            self._traveller.shift(OPEN_FOR)
            self.sandbox.advance(0)
        parts: dict[Plan, Callable[[], None]] = {
            Plan.CURRENT: lambda: None,
            Plan.OLD: self._replace,
            Plan.GONE: self._suspend,
        }
        parts[self.plan]()
        self.worker.forget()
        InvoiceCollection.objects.update(enqueued_at=None)

    def _sync(self) -> None:
        self.worker.forget()
        sync_tenant(tenant_id=PUBKEY)

    def _suspend(self) -> None:
        end_grace_now(tenant_id=PUBKEY, invoice_ids=[self.invoice_id])
        self._sync()

    def _replace(self) -> None:
        """End the subscription and, since support asks nothing now, begin another."""
        relay = Relay.objects.get()
        deactivate_relay(relay_id=relay.pk)
        self._sync()
        update_tenant(pubkey=PUBKEY, dunning_exempt=True)
        activate_relay(relay_id=relay.pk)
        self._sync()
        update_tenant(pubkey=PUBKEY, dunning_exempt=False)
        self._sync()
        second = InvoiceCollection.objects.exclude(pk=self.invoice_id).get()
        collect_invoice(invoice_id=second.pk)
        self._pay_on_page(second.pk)
        collect_invoice(invoice_id=second.pk)

    # --- the cell

    def _set(self, cell: Cell) -> None:
        self._set_payer(cell.payer)
        if cell.attempt != Attempt.NONE:
            self._begin_rung(cell.attempt)
        self._set_attempt(cell)
        self._set_offer(cell)
        self._set_bill(cell)

    def _set_payer(self, payer: Payer) -> None:
        url = wallet_url(_THEIRS) if payer.has_wallet else ""
        Tenant.objects.update(nwc_url=url)
        self.card = self._attach() if payer.has_card else ""

    def _attach(self) -> str:
        given: Any = {"customer": self.customer_id}
        return str(self.api.v1.payment_methods.attach("pm_card_visa", given).id)

    def _begin_rung(self, attempt: Attempt) -> None:
        rails = {
            Attempt.UNSENT: Action.CARD,
            Attempt.SENT: Action.CARD,
            Attempt.WALLET_REFUSED: Action.CARD,
            Attempt.ARRIVED: Action.CARD,
            Attempt.MARKING: Action.NONE,
        }
        self._columns(
            attempts_started=3,
            attempt_started_at=timezone.now(),
            state=State.PENDING,
            next_action=rails.get(attempt, Action.NOTICE),
        )

    def _set_attempt(self, cell: Cell) -> None:
        wallets = {
            Attempt.UNSENT: self.poll_wallet,
            Attempt.SENT: lambda: self.poll_wallet(sent=True),
            Attempt.WALLET_REFUSED: lambda: self._refuse(cell.offer),
            Attempt.ARRIVED: self._arrive,
            Attempt.MARKING: lambda: self._book(Settlement.State.MARKING),
            Attempt.CARD_ASKED: lambda: self._charge(CardAttempt.State.PENDING),
            Attempt.CARD_REFUSED: lambda: self._charge(CardAttempt.State.REFUSED),
            Attempt.ACTION: lambda: self._charge(CardAttempt.State.ACTION_REQUIRED),
        }
        if cell.attempt in wallets:
            wallets[cell.attempt]()

    def _set_offer(self, cell: Cell) -> None:
        now = timezone.now()
        if cell.offer == Offer.SHOWN:
            self._bolt11("open", shown_at=now)
        if cell.offer == Offer.EXPIRED and cell.attempt != Attempt.WALLET_REFUSED:
            self._bolt11(
                "expired",
                shown_at=now - timedelta(hours=1),
                expires_at=now - timedelta(minutes=45),
            )

    def _set_bill(self, cell: Cell) -> None:
        invoices = self.api.v1.invoices
        deeds: dict[Bill, Callable[[], object]] = {
            Bill.CREDITED: self._credit,
            Bill.BY_CARD: self._capture,
            Bill.MARKED: lambda: self._mark(cell),
            Bill.ON_PAGE: lambda: self._pay_on_page(self.invoice_id),
            Bill.VOID: lambda: invoices.void_invoice(self.invoice_id),
            Bill.WRITTEN_OFF: lambda: invoices.mark_uncollectible(self.invoice_id),
        }
        if cell.bill in deeds:
            deeds[cell.bill]()

    def _do(self, event: Event) -> None:
        """What Stripe's event tells of, unless the invoice's state says it."""
        if event == Event.CUSTOMER_DELETED:
            self.api.v1.customers.delete(self.customer_id)
        if event == Event.ENDED and self.plan == Plan.CURRENT:
            self.api.v1.subscriptions.cancel(self.subscription_id)
        if event == Event.UPDATED and self.plan == Plan.CURRENT:
            (item,) = self.api.v1.subscription_items.list(
                {"subscription": self.subscription_id}
            ).data
            self.api.v1.subscription_items.update(item.id, {"quantity": 2})

    # --- attempts

    def _bolt11(self, state: str, **columns: Any) -> LightningInvoice:
        if state == "settled":
            columns |= {"settled_at": timezone.now(), "received_msat": self._msat}
        return make_invoice(
            self.tenant,
            issuing_wallet().uri.pubkey,
            stripe_invoice_id=self.invoice_id,
            amount_cents=self.remaining,
            amount_msat=self._msat,
            state=state,
            **columns,
        )

    @property
    def _msat(self) -> int:
        return self.remaining * 10_000

    def poll_wallet(self, *, sent: bool = False) -> None:
        """Record an attempt of the tenant's wallet, and that its request has left."""
        request = {"request_event_id": "e" * 64, "sent_at": timezone.now()}
        self._attempt("open", NwcPayment.State.PENDING, **(request if sent else {}))

    def _refuse(self, offer: Offer) -> None:
        state = "expired" if offer == Offer.EXPIRED else "dead"
        self._attempt(state, NwcPayment.State.REFUSED, code="INSUFFICIENT_BALANCE")

    def _arrive(self) -> None:
        self._attempt("settled", NwcPayment.State.PAID)

    def _attempt(self, bolt11: str, state: NwcPayment.State, **columns: Any) -> None:
        is_over = state != NwcPayment.State.PENDING
        NwcPayment.objects.create(
            invoice=self._bolt11(bolt11),
            tenant=self.tenant,
            stripe_invoice_id=self.invoice_id,
            nwc_url=wallet_url(_THEIRS),
            wallet_pubkey=pubkey_of(_THEIRS.wallet),
            client_pubkey=pubkey_of(_THEIRS.client),
            state=state,
            resolved_at=timezone.now() if is_over else None,
            **columns,
        )

    def _charge(self, state: CardAttempt.State) -> None:
        is_over = state != CardAttempt.State.PENDING
        CardAttempt.objects.create(
            collection=self.row,
            payment_method=self.card or "pm_gone",
            amount_cents=self.remaining,
            idempotency_key=f"{CARD_KEY}:{state}" if is_over else CARD_KEY,
            state=state,
            code="insufficient_funds" if is_over else "",
            message="Your card has insufficient funds." if is_over else "",
            tried_at=timezone.now(),
            resolved_at=timezone.now() if is_over else None,
        )

    def _book(self, state: Settlement.State) -> LightningInvoice:
        """A person has paid the bolt11 that they were shown."""
        paid = self._bolt11("settled", shown_at=timezone.now())
        is_over = state != Settlement.State.MARKING
        Settlement.objects.create(
            invoice=paid,
            collection=self.row,
            state=state,
            marked_cents=self.remaining if is_over else 0,
            resolved_at=timezone.now() if is_over else None,
        )
        return paid

    # --- Stripe's side of the invoice

    def _credit(self) -> None:
        note: Any = {"invoice": self.invoice_id, "amount": self.remaining}
        self.api.v1.credit_notes.create(note)

    def _capture(self) -> None:
        card = self.card or self._attach()
        given = {"payment_method": card, "off_session": True}
        Stripe().pay_invoice(self.invoice_id, given, CARD_KEY)
        mine = CardAttempt.objects.filter(state=CardAttempt.State.PENDING)
        if not mine.update(payment_method=card):
            self._charge(CardAttempt.State.PENDING)
            mine.update(
                payment_method=card,
                state=CardAttempt.State.PAID,
                resolved_at=timezone.now(),
            )
        if not self.card:
            self.api.v1.payment_methods.detach(card)

    def _mark(self, cell: Cell) -> None:
        if cell.attempt == Attempt.MARKING:
            paid = Settlement.objects.get().invoice
        else:
            paid = self._book(Settlement.State.MARKED)
        Stripe().set_invoice_metadata(
            self.invoice_id, {"lightning_payment_hash": paid.payment_hash}
        )
        Stripe().mark_paid_out_of_band(self.invoice_id)

    def _pay_on_page(self, invoice_id: str) -> None:
        self.sandbox.app.transact(
            lambda context: hosted.pay(context, invoice_id, "pm_card_visa")
        )

    # --- the event

    def _told(self, event: Event) -> tuple[dict[str, Any], dict[str, Any] | None]:
        whose = {"customer": self.customer_id}
        if event.is_of_invoice:
            return {"id": self.invoice_id, "object": "invoice", **whose}, None
        if event in {Event.UPDATED, Event.ENDED}:
            return {"id": self.subscription_id, "object": "subscription", **whose}, None
        if event == Event.CUSTOMER_DELETED:
            return {"id": self.customer_id, "object": "customer"}, None
        card = {"id": self.card or "pm_gone", "object": "payment_method"}
        if event == Event.ATTACHED:
            return {**card, **whose}, None
        return {**card, "customer": None}, whose

    def _columns(self, **columns: Any) -> None:
        InvoiceCollection.objects.filter(pk=self.invoice_id).update(**columns)


def our_wallet() -> str:
    """Return the connection to our wallet, which `issue` plays."""
    return wallet_url(_OURS)
