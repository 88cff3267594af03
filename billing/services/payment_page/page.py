"""How an invoice stands for the person who pays it. Looking at it issues nothing.

All of it is read from our own rows, so that it can be asked for every other second.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.utils import timezone

from billing.exceptions import UnknownInvoice
from billing.models import CardAttempt, InvoiceCollection
from billing.money import format_amount, format_price
from billing.services.collection.settlements import lightning_payment_for
from billing.services.invoices import locks
from billing.services.invoices.locks import Blocker, blocker_for_payer
from billing.services.invoices.payer import lightning_payer
from caravel.nostr import short_npub
from lightning.exceptions import WalletError
from lightning.models import LightningInvoice
from lightning.services.invoices import payable_until, reissue_at
from relays.models import Relay

Status = InvoiceCollection.Status
#: How long after its expiry a page still speaks of a bolt11.
_REMEMBERED = timedelta(hours=3)


class PageState(StrEnum):
    DRAFT = "draft"
    OPEN = "open"
    OVERDUE = "overdue"
    WRITTEN_OFF = "written-off"
    WAITING = "waiting"
    OFFERED = "offered"
    WALLET_DOWN = "wallet-down"
    OFFER_EXPIRED = "offer-expired"
    PAID = "paid"
    VOID = "void"


class WaitingFor(StrEnum):
    """What a page waits for."""

    WALLET = "wallet"
    CARD = "card"
    US = "us"


class CardOption(StrEnum):
    """How a card can pay: saved at Stripe for us to charge, or on Stripe's own page."""

    NONE = ""
    SAVED = "saved"
    HOSTED = "hosted"


_HEADLINES = {
    PageState.DRAFT: "This invoice is not asked for yet",
    PageState.OPEN: "Pay this invoice",
    PageState.OVERDUE: "This invoice is overdue",
    PageState.WRITTEN_OFF: "This invoice was written off",
    PageState.WAITING: "One moment",
    PageState.OFFERED: "Scan with a Lightning wallet",
    PageState.WALLET_DOWN: "Scan with a Lightning wallet",
    PageState.OFFER_EXPIRED: "The Lightning invoice has expired",
    PageState.PAID: "Paid. Thank you!",
    PageState.VOID: "This invoice is void",
}
_AWAITING = {
    WaitingFor.WALLET: "Waiting for your wallet",
    WaitingFor.CARD: "Waiting for your card",
}


@dataclass(frozen=True)
class PaymentPage:
    """An invoice for a person, as it stands at `now`.

    `offer` is the bolt11 that was shown last, `payment` one that has arrived.
    `waiting` says what may be paying it just now, and until when if that is known;
    `lightning_until` until when Lightning may at the latest. `card` is the last try.
    """

    invoice: InvoiceCollection
    state: PageState
    now: datetime
    offer: LightningInvoice | None = None
    payment: LightningInvoice | None = None
    waiting: Blocker | None = None
    awaited: WaitingFor | None = None
    lightning_until: datetime | None = None
    card: CardAttempt | None = None
    paid_by: str = ""
    relays_run: bool = False

    @property
    def number(self) -> str:
        return self.invoice.number or self.invoice.pk

    @property
    def headline(self) -> str:
        """What the page says in a few words."""
        awaited = _AWAITING.get(self.awaited) if self.awaited else None
        return awaited or _HEADLINES[self.state]

    @property
    def screen_reader_text(self) -> str:
        """What is said to who cannot see that the page has changed."""
        if self.is_wallet_down:
            return "We cannot reach our wallet just now."
        if self.state == PageState.OFFER_EXPIRED and not self.fresh_at:
            return "A fresh Lightning invoice is to be had."
        return self.headline

    @property
    def tone(self) -> str:
        if self.state == PageState.PAID:
            return "good"
        if self.state in {PageState.VOID, PageState.DRAFT} or self.is_written_off:
            return "quiet"
        return "bad" if self.is_overdue else "plain"

    @property
    def short_npub(self) -> str:
        return short_npub(self.invoice.tenant_id)

    @property
    def is_payable(self) -> bool:
        final = {PageState.DRAFT, PageState.PAID, PageState.VOID}
        return self.state not in final

    @property
    def is_final(self) -> bool:
        """Whether the page will not change any more."""
        is_told = self.state == PageState.VOID or bool(self.paid_by)
        return self.invoice.is_final and is_told

    @property
    def is_offered(self) -> bool:
        return self.state in {PageState.OFFERED, PageState.WALLET_DOWN}

    @property
    def is_wallet_down(self) -> bool:
        return self.state == PageState.WALLET_DOWN

    @property
    def is_overdue(self) -> bool:
        until = self.invoice.suspend_at
        return self.is_payable and until is not None and until <= self.now

    @property
    def is_written_off(self) -> bool:
        return self.is_payable and self.invoice.stripe_status == Status.UNCOLLECTIBLE

    @property
    def amount_cents(self) -> int:
        """What is to be paid, or was."""
        row = self.invoice
        asked = row.amount_remaining_cents or row.amount_due_cents
        return asked or row.total_cents

    @property
    def amount(self) -> str:
        return format_amount(self.amount_cents, self.invoice.currency)

    @property
    def sats(self) -> int:
        """What the bolt11 asks for: those that we issue are in whole sats."""
        return self.offer.amount_msat // 1000 if self.offer else 0

    @property
    def written_sats(self) -> str:
        return f"{self.sats:,}"

    @property
    def offered_amount(self) -> str:
        """What the bolt11 is for: the invoice may ask for something else by now."""
        if self.offer is None:
            return ""
        return format_amount(self.offer.amount_cents, self.offer.currency)

    @property
    def rate(self) -> str:
        """What the bolt11 takes a bitcoin to cost."""
        return format_price(self.offer.rate, self.offer.currency) if self.offer else ""

    @property
    def again_at(self) -> datetime | None:
        """When what is waited for has ended at the latest, None if nobody can say."""
        until = self.waiting.until if self.waiting else None
        return until if until and until > self.now else None

    @property
    def fresh_at(self) -> datetime | None:
        """When a fresh bolt11 may be asked for, None if that is now."""
        ready_at = reissue_at(self.offer) if self.offer else self.now
        return ready_at if ready_at > self.now else None

    @property
    def card_option(self) -> CardOption:
        """How a card can pay: we charge none whose owner, or the bank, forbids it.

        Nor any other than its customer's, who may have been deleted at Stripe.
        """
        if not self.is_payable or self.state == PageState.WAITING:
            return CardOption.NONE
        unasked = self.is_written_off or self.invoice.tenant.autopay_paused
        if unasked or self.needs_person or self.is_customer_gone:
            return (
                CardOption.HOSTED
                if self.invoice.hosted_invoice_url
                else CardOption.NONE
            )
        return CardOption.SAVED

    @property
    def needs_person(self) -> bool:
        """Whether the bank wants to ask the card's owner, on Stripe's page."""
        return bool(self.card and self.card.state == CardAttempt.State.ACTION_REQUIRED)

    @property
    def is_customer_gone(self) -> bool:
        return self.invoice.stripe_customer_id != self.invoice.tenant.stripe_customer_id

    @property
    def is_declined(self) -> bool:
        return bool(self.card and self.card.state == CardAttempt.State.REFUSED)

    @property
    def version(self) -> str:
        """What is another whenever the page says something else."""
        said = (
            self.state,
            self.number,
            self.amount,
            self.paid_by,
            self.offer and self.offer.pk,
            self.fresh_at,
            self.waiting,
            self.again_at,
            self.lightning_until,
            self.is_overdue,
            self.is_written_off,
            self.card_option,
            self.card and self.card.pk,
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def invoice_page(invoice_id: str) -> PaymentPage:
    """Return what a person is shown of an invoice as it was last read.

    Raises UnknownInvoice.
    """
    rows = InvoiceCollection.objects.select_related("tenant")
    invoice = rows.filter(pk=invoice_id).first()
    if invoice is None:
        raise UnknownInvoice("There is no such invoice.")
    now = timezone.now()
    if invoice.is_unpaid:
        return _unpaid(invoice, now)
    state = PageState.PAID
    if invoice.stripe_status in {Status.DRAFT, Status.VOID}:
        state = PageState(invoice.stripe_status)
    return PaymentPage(invoice, state, now, paid_by=invoice.paid_by)


def _unpaid(invoice: InvoiceCollection, now: datetime) -> PaymentPage:
    payment = lightning_payment_for(invoice)
    if payment:
        # Before Stripe knows: nobody is to think that it has not arrived.
        paid_by = lightning_payer(payment.pk).value
        return PaymentPage(
            invoice, PageState.PAID, now, payment=payment, paid_by=paid_by
        )
    offer = _last_offer(invoice.pk, now)
    is_offered = offer is not None and offer.expires_at > now
    waiting = _waiting(invoice.pk, is_offered=is_offered)
    return PaymentPage(
        invoice=invoice,
        state=_state(invoice, offer, waiting, now),
        now=now,
        offer=offer,
        waiting=waiting,
        awaited=_awaited(invoice.pk) if waiting else None,
        lightning_until=payable_until(invoice.pk),
        card=invoice.card_attempts.first(),
        relays_run=Relay.objects.billable().filter(tenant=invoice.tenant).exists(),
    )


def _state(
    invoice: InvoiceCollection,
    offer: LightningInvoice | None,
    waiting: Blocker | None,
    now: datetime,
) -> PageState:
    if waiting:
        return PageState.WAITING
    if offer and offer.expires_at > now:
        return PageState.WALLET_DOWN if _is_silent(offer) else PageState.OFFERED
    if offer:
        return PageState.OFFER_EXPIRED
    if invoice.stripe_status == Status.UNCOLLECTIBLE:
        return PageState.WRITTEN_OFF
    is_overdue = invoice.suspend_at is not None and invoice.suspend_at <= now
    return PageState.OVERDUE if is_overdue else PageState.OPEN


def _last_offer(invoice_id: str, now: datetime) -> LightningInvoice | None:
    """Return the bolt11 that a person was shown last, while it may still be paid."""
    shown = LightningInvoice.objects.of(invoice_id).live()
    found: LightningInvoice | None = shown.filter(
        shown_at__isnull=False, expires_at__gt=now - _REMEMBERED
    ).last()
    return found


def _waiting(invoice_id: str, *, is_offered: bool) -> Blocker | None:
    """Return what is to be waited for; what is on offer can be paid meanwhile."""
    if is_offered and not locks.has_unbooked_payment(invoice_id):
        return None
    return blocker_for_payer(invoice_id)


def _awaited(invoice_id: str) -> WaitingFor:
    if locks.has_pending_charge(invoice_id):
        return WaitingFor.CARD
    return WaitingFor.WALLET if locks.has_pending_attempt(invoice_id) else WaitingFor.US


def _is_silent(offer: LightningInvoice) -> bool:
    """Return whether our wallet could not be asked when it was last tried.

    That a payment is just arriving is an answer of a kind.
    """
    return offer.last_error_code not in {"", WalletError.code}
