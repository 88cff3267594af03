"""Showing a person a Lightning invoice to pay, on their wish."""

from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import Bolt11NotOpen, InvoiceNotOpen, UnknownInvoice
from billing.models import InvoiceCollection
from billing.services.invoices import locks
from billing.services.invoices.records import payment_request_for, read_invoice
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice
from lightning.services.invoices import (
    PaymentRequest,
    current_invoice,
    issue_for_payer,
    lock_for_payer,
    save_as_presented,
)

Status = InvoiceCollection.Status
Action = InvoiceCollection.Action


def get_or_issue_bolt11(*, invoice_id: str) -> LightningInvoice:
    """Return the Lightning invoice that pays a Stripe invoice, issued if need be.

    Raises UnknownInvoice, InvoiceNotOpen, PaymentInProgress with the time until when
    something else may pay it, AlreadySettled, RateUnavailable or a WalletError.
    """
    # Before Stripe is asked: whoever has a link may press the button all day long.
    collection = _known(invoice_id)
    offered = current_invoice(payment_request=payment_request_for(collection))
    if offered and collection.is_unpaid:
        return offered
    _read_again(collection)
    _require_open(collection)
    payment_request = payment_request_for(collection)
    if current := current_invoice(payment_request=payment_request):
        return current
    issued = issue_for_payer(payment_request=payment_request)
    return _present(collection, payment_request, issued)


def current_bolt11(invoice_id: str) -> LightningInvoice:
    """Return the Lightning invoice that a person asked for and may still pay.

    Raises Bolt11NotOpen, also when the invoice was paid in another way. Nothing is
    issued, and nobody is asked.
    """
    open_ones = LightningInvoice.objects.of(invoice_id).open()
    shown = open_ones.filter(shown_at__isnull=False, expires_at__gt=timezone.now())
    found: LightningInvoice | None = shown.first()
    unpaid = InvoiceCollection.objects.unpaid().filter(pk=invoice_id)
    if found is None or not unpaid.exists():
        raise Bolt11NotOpen("No Lightning invoice is open: ask for one.")
    return found


def _known(invoice_id: str) -> InvoiceCollection:
    known = InvoiceCollection.objects.select_related("tenant")
    collection: InvoiceCollection | None = known.filter(pk=invoice_id).first()
    if collection is None:
        raise UnknownInvoice("There is no such invoice.")
    return collection


def _read_again(collection: InvoiceCollection) -> None:
    read_invoice(Stripe(), collection.pk, collection.tenant)
    collection.refresh_from_db()


def _require_open(collection: InvoiceCollection) -> None:
    is_payable = collection.stripe_status in {Status.OPEN, Status.UNCOLLECTIBLE}
    if not is_payable or collection.amount_remaining_cents <= 0:
        raise InvoiceNotOpen("There is nothing to pay on this invoice.")


def _present(
    collection: InvoiceCollection,
    payment_request: PaymentRequest,
    issued: LightningInvoice,
) -> LightningInvoice:
    """Present an issued invoice, or return the one that a concurrent request did."""
    try:
        with transaction.atomic():
            if current := lock_for_payer(payment_request=payment_request):
                return current
            _lock_if_payable(collection)
            save_as_presented(issued)
            return issued
    except PaymentInProgress:
        # Two clicks at once, and no row yet that the second could have waited for.
        if current := current_invoice(payment_request=payment_request):
            return current
        raise


def _lock_if_payable(collection: InvoiceCollection) -> None:
    """Lock the collection; raises PaymentInProgress or InvoiceChanged.

    A wallet or card payment that has waited for an earlier bolt11 comes first.
    """
    locked = locks.lock_if_no_other_method(collection.pk)
    locks.require_unchanged(locked, collection)
    found = locks.payment_blocker(collection.pk)
    waited = found or locked.state == InvoiceCollection.State.PENDING
    if waited and locked.next_action in {Action.WALLET, Action.CARD}:
        until = found.until if found else None
        raise PaymentInProgress("It is about to be charged.", until=until)
