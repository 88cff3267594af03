"""The payment page's bolt11: issued on request, presented until it expires."""

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
from lightning.services.rates import prefetch

Action = InvoiceCollection.Action


def get_or_issue_bolt11(*, invoice_id: str) -> LightningInvoice:
    """Return the open bolt11 of a Stripe invoice, issuing one if necessary.

    Raises UnknownInvoice, InvoiceNotOpen, PaymentInProgress (with `until`, if known),
    AlreadySettled, RateUnavailable or a WalletError.
    """
    rows = InvoiceCollection.objects.select_related("tenant")
    collection: InvoiceCollection | None = rows.filter(pk=invoice_id).first()
    if collection is None:
        raise UnknownInvoice("There is no such invoice.")
    # Before the call to Stripe: anyone with the link can press the button repeatedly.
    bolt11 = current_invoice(payment_request=_payment_request(collection))
    is_paying = locks.blocker_at_stripe(collection) is not None
    if bolt11 and collection.is_unpaid and not is_paying:
        return bolt11
    if collection.is_unpaid:
        prefetch(collection.currency)  # while Stripe answers
    # It may have been paid or reduced in Stripe, and its webhook still be on its way.
    read_invoice(Stripe(), collection.pk, collection.tenant)
    collection.refresh_from_db()
    _require_payable(collection)
    payment_request = _payment_request(collection)
    if current := current_invoice(payment_request=payment_request):
        return current
    issued = issue_for_payer(payment_request=payment_request)
    return _present(collection, payment_request, issued)


def current_bolt11(invoice_id: str) -> LightningInvoice:
    """Return the open bolt11 that was presented to a payer, from our own rows.

    Raises Bolt11NotOpen, also when the invoice has been paid by another method, or is
    being paid at Stripe.
    """
    open_bolt11s = LightningInvoice.objects.of(invoice_id).open()
    bolt11: LightningInvoice | None = open_bolt11s.filter(
        shown_at__isnull=False, expires_at__gt=timezone.now()
    ).first()
    unpaid = InvoiceCollection.objects.unpaid().filter(pk=invoice_id).first()
    if bolt11 is None or unpaid is None or locks.blocker_at_stripe(unpaid):
        raise Bolt11NotOpen("No Lightning invoice is open: create one first.")
    return bolt11


def _payment_request(collection: InvoiceCollection) -> PaymentRequest:
    return payment_request_for(collection, with_dispute_debt=True)


def _require_payable(collection: InvoiceCollection) -> None:
    if not collection.is_unpaid:
        raise InvoiceNotOpen("There is nothing to pay on this invoice.")
    # Also for a bolt11 that was presented before.
    if blocker := locks.blocker_at_stripe(collection):
        raise PaymentInProgress(blocker.reason, until=blocker.until)


def _present(
    collection: InvoiceCollection,
    payment_request: PaymentRequest,
    issued: LightningInvoice,
) -> LightningInvoice:
    """Present an issued invoice, or return that of a concurrent request."""
    try:
        with transaction.atomic():
            if current := lock_for_payer(payment_request=payment_request):
                return current
            _lock_if_payable(collection)
            save_as_presented(issued)
            return issued
    except PaymentInProgress:
        # Two clicks at once: there was no row yet that the second could wait for.
        if current := current_invoice(payment_request=payment_request):
            return current
        raise


def _lock_if_payable(collection: InvoiceCollection) -> None:
    """Lock the collection. Raises PaymentInProgress or InvoiceChanged."""
    locked = locks.lock_if_no_other_method(collection.pk)
    locks.require_unchanged(locked, collection)
    blocker = locks.payment_blocker(collection.pk)
    # A charge that waited for the previous bolt11 goes first: otherwise a payer could
    # put it off for ever by renewing the bolt11.
    was_deferred = blocker or locked.state == InvoiceCollection.State.PENDING
    if was_deferred and locked.next_action in {Action.WALLET, Action.CARD}:
        until = blocker.until if blocker else None
        raise PaymentInProgress("This invoice is about to be charged.", until=until)
