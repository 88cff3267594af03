"""State of an invoice's payment page. Reading it issues nothing.

It comes from our own rows only: open pages poll it every two seconds.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from django.utils import timezone

from billing.exceptions import UnknownInvoice
from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection.settlements import lightning_payment_for
from billing.services.invoices import locks
from billing.services.invoices.locks import Blocker, blocker_for_payer
from billing.services.invoices.payer import lightning_payer
from billing.services.payment_page.open_invoices import (
    OpenInvoice,
    other_open_invoices,
)
from billing.services.reversals.debts import is_taken_back
from lightning.exceptions import WalletBusy, WalletError
from lightning.models import LightningInvoice
from lightning.services.invoices import reissue_at
from lightning.services.live_payments import LivePayment, live_payment
from relays.models import Relay

Status = InvoiceCollection.Status
#: Time after its expiry in which a bolt11 is still on the page and looked up: a payment
#: that was in flight at the expiry can still settle.
_SHOW_EXPIRED_FOR = timedelta(hours=3)


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
    DISPUTED = "disputed"
    VOID = "void"


class WaitingFor(StrEnum):
    """Reason for the state WAITING.

    BANK and CHALLENGE are a bank payment and a 3D Secure challenge at Stripe; SUPPORT
    must decide whether a Lightning payment has arrived; INTERNAL is a booking or
    reduction of our own.
    """

    BANK = "bank"
    CHALLENGE = "challenge"
    WALLET = "wallet"
    SUPPORT = "support"
    CARD = "card"
    INTERNAL = "internal"


class CardOption(StrEnum):
    """Card payment: SAVED in Stripe for us to charge, or HOSTED on Stripe's page."""

    NONE = ""
    SAVED = "saved"
    HOSTED = "hosted"


@dataclass(frozen=True)
class PaymentPage:
    """State of the page at `now`.

    `bolt11` is the Lightning invoice that was presented last, `payment` one that has
    been paid. `blocker` may be paying the invoice now; `lightning` is a
    Lightning payment that may still arrive; `card_attempt` is the last one. `others`
    are the tenant's other open invoices.
    """

    invoice: InvoiceCollection
    state: PageState
    now: datetime
    bolt11: LightningInvoice | None = None
    payment: LightningInvoice | None = None
    blocker: Blocker | None = None
    waiting_for: WaitingFor | None = None
    lightning: LivePayment | None = None
    card_attempt: CardAttempt | None = None
    paid_by: str = ""
    has_suspendable_relays: bool = False
    others: tuple[OpenInvoice, ...] = ()

    @property
    def others_keeping_relays_off(self) -> int:
        """Number of other invoices whose relays stay off when this one is paid."""
        return sum(other.keeps_relays_off for other in self.others)

    @property
    def is_payable(self) -> bool:
        final = {PageState.DRAFT, PageState.PAID, PageState.DISPUTED, PageState.VOID}
        return self.state not in final

    @property
    def is_settled_without_money(self) -> bool:
        """Return whether credit covered all of it, or there was nothing to pay."""
        is_paid = self.state == PageState.PAID and self.payment is None
        return is_paid and self.invoice.amount_paid_cents <= 0

    @property
    def is_final(self) -> bool:
        """Return whether the page can no longer change."""
        is_complete = self.state == PageState.VOID or bool(self.paid_by)
        return self.invoice.is_final and is_complete

    @property
    def open_bolt11(self) -> LightningInvoice | None:
        """The Lightning invoice that the payer can pay now."""
        is_open = self.state in {PageState.OFFERED, PageState.WALLET_DOWN}
        return self.bolt11 if is_open else None

    @property
    def is_wallet_down(self) -> bool:
        return self.state == PageState.WALLET_DOWN

    @property
    def is_overdue(self) -> bool:
        until = self.invoice.suspend_at
        return self.is_payable and until is not None and until <= self.now

    @property
    def keeps_relays_on(self) -> bool:
        """Return whether relays that are on depend on a payment in time."""
        ends = self.invoice.suspend_at is not None and not self.is_overdue
        is_exempt = self.invoice.tenant.dunning_exempt
        return (
            self.is_payable and self.has_suspendable_relays and ends and not is_exempt
        )

    @property
    def is_written_off(self) -> bool:
        return self.is_payable and self.invoice.stripe_status == Status.UNCOLLECTIBLE

    @property
    def is_disputed(self) -> bool:
        """Return whether disputed money is to be paid again."""
        return self.is_payable and self.invoice.dispute_debt_cents > 0

    @property
    def amount_cents(self) -> int:
        """Amount to pay; of a paid invoice the amount that was due."""
        row = self.invoice
        return row.owed_cents or row.amount_due_cents or row.total_cents

    @property
    def blocked_until(self) -> datetime | None:
        """Latest end of the blocker, None when unknown."""
        return self.blocker.until if self.blocker else None

    @property
    def reissue_at(self) -> datetime | None:
        """Earliest time for a new bolt11, None when one can be issued now."""
        ready_at = reissue_at(self.bolt11) if self.bolt11 else self.now
        return ready_at if ready_at > self.now else None

    @property
    def card_option(self) -> CardOption:
        """Return how the payer can use a card.

        We charge no card when autopay is paused, when the invoice is written off, or
        when the bank requires authentication. Nor when the invoice's customer was
        deleted in Stripe: a card saved now would belong to another customer. Disputed
        money is paid again by Lightning only.
        """
        if not self.is_payable or self.state == PageState.WAITING:
            return CardOption.NONE
        if not self.invoice.chargeable_cents:
            return CardOption.NONE
        is_paused = self.is_written_off or self.invoice.tenant.autopay_paused
        if not (is_paused or self.needs_authentication or self.is_customer_gone):
            return CardOption.SAVED
        has_hosted_page = bool(self.invoice.hosted_invoice_url)
        return CardOption.HOSTED if has_hosted_page else CardOption.NONE

    @property
    def needs_authentication(self) -> bool:
        """Return whether the bank requires 3-D Secure, on Stripe's hosted page."""
        attempt = self.card_attempt
        return bool(attempt and attempt.state == CardAttempt.State.ACTION_REQUIRED)

    @property
    def is_customer_gone(self) -> bool:
        return self.invoice.stripe_customer_id != self.invoice.tenant.stripe_customer_id

    @property
    def is_declined(self) -> bool:
        attempt = self.card_attempt
        return bool(attempt and attempt.state == CardAttempt.State.REFUSED)


def get_page(invoice_id: str) -> PaymentPage:
    """Return the page of an invoice as it was last read. Raises UnknownInvoice."""
    rows = InvoiceCollection.objects.select_related("tenant")
    invoice = rows.filter(pk=invoice_id).first()
    if invoice is None:
        raise UnknownInvoice("There is no such invoice.")
    now = timezone.now()
    page = _unpaid_page if invoice.is_unpaid else _settled_page
    return replace(page(invoice, now), others=other_open_invoices(invoice))


def _settled_page(invoice: InvoiceCollection, now: datetime) -> PaymentPage:
    state = PageState.PAID
    if invoice.hold == InvoiceCollection.Hold.WRITTEN_OFF:
        return PaymentPage(invoice, PageState.VOID, now)
    if invoice.stripe_status in {Status.DRAFT, Status.VOID}:
        state = PageState(invoice.stripe_status)
    elif is_taken_back(invoice):
        state = PageState.DISPUTED
    return PaymentPage(invoice, state, now, paid_by=invoice.paid_by)


def _unpaid_page(invoice: InvoiceCollection, now: datetime) -> PaymentPage:
    # One that has paid a disputed invoice before does not pay its debt.
    payment = lightning_payment_for(invoice) if invoice.chargeable_cents else None
    if payment:
        # Before it is marked in Stripe: the payer must not think that it got lost.
        paid_by = lightning_payer(payment.pk).value
        return PaymentPage(
            invoice, PageState.PAID, now, payment=payment, paid_by=paid_by
        )
    bolt11 = _last_bolt11(invoice.pk, now)
    is_open = bolt11 is not None and bolt11.expires_at > now
    # Until a payment arrives, our other pending payments do not block an open bolt11.
    is_paying = locks.blocker_at_stripe(invoice) is not None
    is_blocked = not is_open or is_paying or locks.has_unbooked_payment(invoice.pk)
    blocker = blocker_for_payer(invoice.pk) if is_blocked else None
    return PaymentPage(
        invoice=invoice,
        state=_state(invoice, bolt11, blocker, now),
        now=now,
        bolt11=bolt11,
        blocker=blocker,
        waiting_for=_waiting_for(invoice) if blocker else None,
        lightning=live_payment(invoice.pk),
        card_attempt=invoice.card_attempts.first(),
        has_suspendable_relays=Relay.objects.suspendable()
        .filter(tenant=invoice.tenant)
        .exists(),
    )


def _state(
    invoice: InvoiceCollection,
    bolt11: LightningInvoice | None,
    blocker: Blocker | None,
    now: datetime,
) -> PageState:
    if blocker:
        return PageState.WAITING
    if bolt11 and bolt11.expires_at > now:
        is_down = _has_wallet_failed(bolt11)
        return PageState.WALLET_DOWN if is_down else PageState.OFFERED
    if bolt11:
        return PageState.OFFER_EXPIRED
    if invoice.stripe_status == Status.UNCOLLECTIBLE:
        return PageState.WRITTEN_OFF
    is_overdue = invoice.suspend_at is not None and invoice.suspend_at <= now
    return PageState.OVERDUE if is_overdue else PageState.OPEN


def _last_bolt11(invoice_id: str, now: datetime) -> LightningInvoice | None:
    presented = LightningInvoice.objects.of(invoice_id).live()
    last: LightningInvoice | None = presented.filter(
        shown_at__isnull=False, expires_at__gt=now - _SHOW_EXPIRED_FOR
    ).last()
    return last


def _waiting_for(invoice: InvoiceCollection) -> WaitingFor:
    if invoice.is_bank_debited:
        return WaitingFor.BANK
    if locks.blocker_at_stripe(invoice):
        return WaitingFor.CHALLENGE
    if locks.has_pending_charge(invoice.pk):
        return WaitingFor.CARD
    if locks.waits_for_support(invoice.pk):
        return WaitingFor.SUPPORT
    is_pending = locks.has_pending_attempt(invoice.pk)
    return WaitingFor.WALLET if is_pending else WaitingFor.INTERNAL


def _has_wallet_failed(bolt11: LightningInvoice) -> bool:
    """Return whether our wallet could not be reached at the last look-up."""
    # WalletError itself is recorded while a payment arrives: the wallet did answer.
    return bolt11.last_error_code not in {"", WalletError.code, WalletBusy.code}
