"""Set up a case: rows in the database and objects at Stripe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import CardAttempt, InvoiceCollection, Settlement, StripeEvent
from billing.services.collection.collect import collect_invoice
from billing.services.customers.catalog import ensure_prices
from billing.services.dunning.suspension import end_grace_now
from billing.services.invoices.records import record_and_enqueue
from billing.services.subscriptions.sync import sync_tenant
from billing.tasks import process_stripe_event
from billing.tests.factories import StripeEventFactory
from billing.tests.support.event_matrix.cases import (
    Attempt,
    Bolt11State,
    Case,
    Event,
    InvoiceState,
    PaymentMethods,
    SubscriptionState,
)
from billing.tests.support.event_matrix.fake_worker import FakeWorker, rolled_back
from billing.tests.support.event_matrix.outside import Outside
from billing.tests.support.saved_state import SavedState
from billing.tests.support.workers import Killed
from caravel.nostr import pubkey_of
from lightning.clients.nwc_replies import Issued
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.own_wallets import issuing_wallet
from lightning.tests.factories import make_invoice
from relays.models import Relay
from relays.services.lifecycle import activate_relay, create_relay, deactivate_relay
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import Sandbox
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.wallets.bolt11 import make_bolt11, make_preimage
from sandbox.wallets.keys import Keys, connection_url, keys_of
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant

START = datetime(2027, 4, 1, 9, tzinfo=UTC)
#: Age of the open invoice: its first three scheduled attempts are over.
OPEN_FOR = timedelta(days=3, hours=12)
#: Longer than a queued task is waited for, and than a lease lasts.
_SWEEP_INTERVAL = timedelta(minutes=6)
CARD_KEY = "caravel:pay:table"
PUBKEY = pubkey_of("1" * 64)
_OWN_KEYS, _TENANT_KEYS = keys_of("table", "platform"), keys_of("table", "tenant")

Action = InvoiceCollection.Action
State = InvoiceCollection.State


def wallet_url(keys: Keys) -> str:
    return connection_url(keys, "wss://relay.example")


def issue_bolt11(
    wallet: Any, *, amount_msat: int, description: str, expiry: int
) -> Issued:
    """Issue a signed bolt11, in place of our own wallet's `make_invoice`."""
    payment_hash = make_preimage().hash
    bolt11 = make_bolt11(
        node_key=_OWN_KEYS.node,
        payment_hash=payment_hash,
        amount_msat=amount_msat,
        expiry=expiry,
        description=description,
        created_at=int(timezone.now().timestamp()),
    )
    return Issued(bolt11, payment_hash)


@dataclass(frozen=True)
class Built:
    """Ids of the objects that every case starts with, and the time then."""

    invoice_id: str
    subscription_id: str
    customer_id: str
    now: datetime


#: What was built once, by whether the invoice is a draft, and the subscription.
SavedSetups = dict[tuple[bool, SubscriptionState], SavedState[Built]]


class CaseSetup:
    """A tenant with one invoice, on which cases are set up and undone one by one.

    `subscription_id` is the subscription that the invoice belongs to.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        traveller: time_machine.Traveller,
        worker: FakeWorker,
        saved: SavedSetups,
        *,
        is_draft: bool,
        subscription: SubscriptionState,
    ) -> None:
        self.sandbox, self.worker = sandbox, worker
        self.subscription, self._is_draft = subscription, is_draft
        self.api = in_process_client(sandbox.app)
        self._traveller = traveller
        key = is_draft, subscription
        if key not in saved:
            saved[key] = SavedState(sandbox, self._build)
            sandbox.reset()
        self._now = saved[key].value.now
        traveller.move_to(self._now)
        self._use(saved[key].restore())
        self.remaining = self.row.amount_remaining_cents
        sandbox.snapshot("table")

    @property
    def outside(self) -> Outside:
        """Staff, banks and card networks, who act on the case's objects."""
        return Outside(
            self.sandbox, self.invoice_id, self.subscription_id, self.customer_id
        )

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=PUBKEY)

    @property
    def row(self) -> InvoiceCollection:
        return InvoiceCollection.objects.get(pk=self.invoice_id)

    @contextmanager
    def arrange(self, case: Case, *others: Event) -> Iterator[None]:
        """Set up a case for the block, and undo everything after it.

        The changes that the case's event and `others` report have happened at Stripe.
        """
        self.worker.kill_at(None)
        self._traveller.move_to(self._now)
        self.sandbox.restore("table")
        with rolled_back():
            self._set(case)
            for event in sorted({case.event, *others}, key=list(Event).index):
                self._apply(event)
            self.worker.drop_messages()
            self.worker.kill_at(None)
            yield
        self.worker.drop_messages()

    # --- acting on a case

    def deliver(self, event: Event) -> StripeEvent:
        """Store a Stripe event and enqueue its task."""
        object, previous = self._event_objects(event)
        stored: StripeEvent = StripeEventFactory(
            type=event.value, object=object, previous=previous
        )
        self.worker.enqueue(process_stripe_event, stored.pk)
        return stored

    def redeliver(self, stored: StripeEvent) -> None:
        """Enqueue a stored event once more."""
        self.worker.enqueue(process_stripe_event, stored.pk)

    def unprocessed_events(self) -> list[str]:
        """Return a line for each event that was not processed."""
        pending = StripeEvent.objects.exclude(status=StripeEvent.Status.PROCESSED)
        # Events of a deleted, hence unknown customer wait for an hour.
        pending = pending.exclude(last_error_code="customer-unknown")
        return [
            f"{event.type} is {event.status}: {event.last_error}" for event in pending
        ]

    def work(self) -> None:
        """Run all queued tasks."""
        self.worker.work()

    def run_sweeps(self) -> None:
        """Let time pass and the periodic tasks run, which find lost work."""
        for _ in range(2):
            self._traveller.shift(_SWEEP_INTERVAL)
            self.sandbox.advance(0)
            self.worker.sweep()

    def work_until_killed(self, point: int) -> bool:
        """Run tasks up to a kill point; queued tasks are lost. False if not reached."""
        self.worker.kill_at(point)
        try:
            self.worker.work()
        except Killed:
            return True
        finally:
            self.worker.kill_at(None)
            self.worker.drop_messages()
        return False

    # --- the tenant before a case

    def _build(self) -> Built:
        self._traveller.move_to(START)
        ensure_prices(Stripe())
        get_or_create_tenant(pubkey=PUBKEY)
        create_relay(tenant_id=PUBKEY, subdomain="table", plan_id="basic")
        self._sync()
        (first,) = InvoiceCollection.objects.all()
        ids = first.pk, first.stripe_subscription_id, first.stripe_customer_id
        self._use(Built(*ids, timezone.now()))
        if not self._is_draft:
            finalized = Stripe().invoices.finalize(first.pk)
            record_and_enqueue(finalized, self.tenant, since=first.revision)
            self._traveller.shift(OPEN_FOR)
            self.sandbox.advance(0)
        setups: dict[SubscriptionState, Callable[[], None]] = {
            SubscriptionState.CURRENT: lambda: None,
            SubscriptionState.REPLACED: self._replace,
            SubscriptionState.ENDED_UNPAID: self._suspend,
        }
        setups[self.subscription]()
        self.worker.drop_messages()
        InvoiceCollection.objects.update(enqueued_at=None)
        return Built(*ids, timezone.now())

    def _use(self, built: Built) -> None:
        self.invoice_id, self.customer_id = built.invoice_id, built.customer_id
        self.subscription_id = built.subscription_id

    def _sync(self) -> None:
        self.worker.drop_messages()
        sync_tenant(tenant_id=PUBKEY)

    def _suspend(self) -> None:
        end_grace_now(tenant_id=PUBKEY, invoice_ids=[self.invoice_id])
        self._sync()

    def _replace(self) -> None:
        """End the subscription and start another, exempt from dunning meanwhile."""
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

    # --- the case

    def _set(self, case: Case) -> None:
        self._set_payment_methods(case.methods)
        if case.attempt != Attempt.NONE:
            self._start_attempt(case.attempt)
        self._set_attempt(case)
        self._set_bolt11(case)
        self._set_invoice(case)

    def _set_payment_methods(self, methods: PaymentMethods) -> None:
        url = wallet_url(_TENANT_KEYS) if methods.has_wallet else ""
        Tenant.objects.update(nwc_url=url)
        self.card = self._attach() if methods.has_card else ""

    def _attach(self) -> str:
        params: Any = {"customer": self.customer_id}
        return str(self.api.v1.payment_methods.attach("pm_card_visa", params).id)

    def _start_attempt(self, attempt: Attempt) -> None:
        next_actions = {
            Attempt.WALLET_UNSENT: Action.CARD,
            Attempt.WALLET_SENT: Action.CARD,
            Attempt.WALLET_REFUSED: Action.CARD,
            Attempt.WALLET_PAID: Action.CARD,
            Attempt.MARKING: Action.NONE,
        }
        self._update(
            attempts_started=3,
            attempt_started_at=timezone.now(),
            state=State.PENDING,
            next_action=next_actions.get(attempt, Action.NOTICE),
        )

    def _set_attempt(self, case: Case) -> None:
        setters = {
            Attempt.WALLET_UNSENT: self.add_wallet_attempt,
            Attempt.WALLET_SENT: lambda: self.add_wallet_attempt(sent=True),
            Attempt.WALLET_REFUSED: lambda: self._refuse_by_wallet(case.bolt11),
            Attempt.WALLET_PAID: self._pay_by_wallet,
            Attempt.MARKING: lambda: self._book(Settlement.State.MARKING),
            Attempt.CARD_PENDING: lambda: self._add_card_attempt(
                CardAttempt.State.PENDING
            ),
            Attempt.CARD_REFUSED: lambda: self._add_card_attempt(
                CardAttempt.State.REFUSED
            ),
            Attempt.CARD_ACTION_REQUIRED: lambda: self._add_card_attempt(
                CardAttempt.State.ACTION_REQUIRED
            ),
        }
        if case.attempt in setters:
            setters[case.attempt]()

    def _set_bolt11(self, case: Case) -> None:
        now = timezone.now()
        if case.bolt11 == Bolt11State.PRESENTED:
            self._bolt11("open", shown_at=now)
        if (
            case.bolt11 == Bolt11State.EXPIRED
            and case.attempt != Attempt.WALLET_REFUSED
        ):
            self._bolt11(
                "expired",
                shown_at=now - timedelta(hours=1),
                expires_at=now - timedelta(minutes=45),
            )

    def _set_invoice(self, case: Case) -> None:
        invoices = self.api.v1.invoices
        actions: dict[InvoiceState, Callable[[], object]] = {
            InvoiceState.CREDITED: self._credit,
            InvoiceState.PAID_BY_CARD: self._capture,
            InvoiceState.MARKED_PAID: lambda: self._mark(case),
            InvoiceState.PAID_ON_PAGE: lambda: self._pay_on_page(self.invoice_id),
            InvoiceState.VOID: lambda: invoices.void_invoice(self.invoice_id),
            InvoiceState.UNCOLLECTIBLE: lambda: invoices.mark_uncollectible(
                self.invoice_id
            ),
        }
        if case.invoice in actions:
            actions[case.invoice]()

    def _apply(self, event: Event) -> None:
        """Make the change at Stripe that the event reports, if the case has not."""
        if event == Event.CUSTOMER_DELETED:
            self.api.v1.customers.delete(self.customer_id)
        if event == Event.ENDED and self.subscription == SubscriptionState.CURRENT:
            self.api.v1.subscriptions.cancel(self.subscription_id)
        if event == Event.UPDATED and self.subscription == SubscriptionState.CURRENT:
            subscriptions = self.api.v1.subscriptions
            (item,) = subscriptions.retrieve(self.subscription_id)["items"].data
            change: Any = {"items": [{"id": item.id, "quantity": 2}]}
            subscriptions.update(self.subscription_id, change)
        if event.is_from_outside:
            self.outside.apply(event, self.card)

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

    def add_wallet_attempt(self, *, sent: bool = False) -> None:
        """Record a pending attempt by the tenant's wallet, and whether it was sent."""
        request = {"request_event_id": "e" * 64, "sent_at": timezone.now()}
        self._add_attempt("open", NwcPayment.State.PENDING, **(request if sent else {}))

    def _refuse_by_wallet(self, bolt11: Bolt11State) -> None:
        state = "expired" if bolt11 == Bolt11State.EXPIRED else "dead"
        self._add_attempt(state, NwcPayment.State.REFUSED, code="INSUFFICIENT_BALANCE")

    def _pay_by_wallet(self) -> None:
        self._add_attempt("settled", NwcPayment.State.PAID)

    def _add_attempt(
        self, bolt11: str, state: NwcPayment.State, **columns: Any
    ) -> None:
        is_resolved = state != NwcPayment.State.PENDING
        NwcPayment.objects.create(
            invoice=self._bolt11(bolt11),
            tenant=self.tenant,
            stripe_invoice_id=self.invoice_id,
            nwc_url=wallet_url(_TENANT_KEYS),
            wallet_pubkey=pubkey_of(_TENANT_KEYS.wallet),
            client_pubkey=pubkey_of(_TENANT_KEYS.client),
            state=state,
            resolved_at=timezone.now() if is_resolved else None,
            **columns,
        )

    def _add_card_attempt(self, state: CardAttempt.State) -> None:
        is_resolved = state != CardAttempt.State.PENDING
        CardAttempt.objects.create(
            collection=self.row,
            payment_method=self.card or "pm_gone",
            card_fingerprint=self._fingerprint(),
            amount_cents=self.remaining,
            idempotency_key=f"{CARD_KEY}:{state}" if is_resolved else CARD_KEY,
            state=state,
            code="insufficient_funds" if is_resolved else "",
            message="Your card has insufficient funds." if is_resolved else "",
            tried_at=timezone.now(),
            resolved_at=timezone.now() if is_resolved else None,
        )

    def _fingerprint(self) -> str:
        if not self.card:
            return ""
        card = self.api.v1.payment_methods.retrieve(self.card).card
        return str(card and card.fingerprint)

    def _book(self, state: Settlement.State) -> LightningInvoice:
        """Record a payment of the presented bolt11, booked or being booked."""
        paid = self._bolt11("settled", shown_at=timezone.now())
        is_resolved = state != Settlement.State.MARKING
        Settlement.objects.create(
            invoice=paid,
            collection=self.row,
            state=state,
            marked_cents=self.remaining if is_resolved else 0,
            resolved_at=timezone.now() if is_resolved else None,
        )
        return paid

    # --- Stripe's side of the invoice

    def _credit(self) -> None:
        note: Any = {"invoice": self.invoice_id, "amount": self.remaining}
        self.api.v1.credit_notes.create(note)

    def _capture(self) -> None:
        card = self.card or self._attach()
        params = {"payment_method": card, "off_session": True}
        Stripe().invoices.pay(self.invoice_id, params, CARD_KEY)
        pending = CardAttempt.objects.filter(state=CardAttempt.State.PENDING)
        if not pending.update(payment_method=card):
            self._add_card_attempt(CardAttempt.State.PENDING)
            pending.update(
                payment_method=card,
                state=CardAttempt.State.PAID,
                resolved_at=timezone.now(),
            )
        if not self.card:
            self.api.v1.payment_methods.detach(card)

    def _mark(self, case: Case) -> None:
        if case.attempt == Attempt.MARKING:
            paid = Settlement.objects.get().invoice
        else:
            paid = self._book(Settlement.State.MARKED)
        Stripe().invoices.set_metadata(
            self.invoice_id, {"lightning_payment_hash": paid.payment_hash}
        )
        Stripe().invoices.mark_paid_out_of_band(self.invoice_id)

    def _pay_on_page(self, invoice_id: str) -> None:
        self.sandbox.app.transact(
            lambda context: hosted_actions.pay(context, invoice_id, "pm_card_visa")
        )

    # --- the event

    def _event_objects(
        self, event: Event
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        customer = {"customer": self.customer_id}
        if event.is_from_outside and event != Event.FINALIZATION_FAILED:
            return self.outside.event_objects(event, self.card)
        if event.is_invoice_event:
            return {"id": self.invoice_id, "object": "invoice", **customer}, None
        if event in {Event.UPDATED, Event.ENDED}:
            return {
                "id": self.subscription_id,
                "object": "subscription",
                **customer,
            }, None
        if event == Event.CUSTOMER_DELETED:
            return {"id": self.customer_id, "object": "customer"}, None
        if event == Event.PROCESSING:
            return {"id": "pi_gone", "object": "payment_intent", **customer}, None
        card = {"id": self.card or "pm_gone", "object": "payment_method"}
        if event == Event.ATTACHED:
            # Another one than was charged before: only that is new.
            return {**card, "id": "pm_new", **customer}, None
        return {**card, "customer": None}, customer

    def _update(self, **columns: Any) -> None:
        InvoiceCollection.objects.filter(pk=self.invoice_id).update(**columns)


def own_wallet_url() -> str:
    """Return the URL of our own wallet, which `issue_bolt11` stands in for."""
    return wallet_url(_OWN_KEYS)
