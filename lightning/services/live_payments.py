"""Lightning payments that may still pay a Stripe invoice: why, and until when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.utils import timezone

from lightning.models import LightningInvoice, LightningInvoiceQuerySet, NwcPayment


@dataclass(frozen=True)
class LivePayment:
    """A Lightning payment that may still arrive, or may have arrived.

    `until` is never in the past: None means that nobody knows.
    """

    reason: str
    until: datetime | None


def live_payment(stripe_invoice_id: str) -> LivePayment | None:
    """Return the live payment of a Stripe invoice; without one another may start."""
    return live_payments([stripe_invoice_id]).get(stripe_invoice_id)


def live_payments(stripe_invoice_ids: Iterable[str]) -> dict[str, LivePayment]:
    """Return the live payments by Stripe invoice, the longest of each."""
    return _by_stripe_invoice(LightningInvoice.objects.live(), stripe_invoice_ids)


def live_payments_for_payers(
    stripe_invoice_ids: Iterable[str],
) -> dict[str, LivePayment]:
    """Return, by Stripe invoice, what keeps a payer from getting another bolt11.

    A presented bolt11 does not, unless a person must decide whether it was paid.
    """
    rows = LightningInvoice.objects.live().filter(
        Q(payment__state="pending") | Q(contradicted_at__isnull=False)
    )
    return _by_stripe_invoice(rows, stripe_invoice_ids)


def describe(invoice: LightningInvoice) -> LivePayment:
    """Return why and until when a live bolt11 may still be paid."""
    payment: NwcPayment | None = getattr(invoice, "payment", None)
    if invoice.contradicted_at:
        reason = "It may have been paid by Lightning: our support looks into it."
        return LivePayment(reason, None)
    if payment and payment.proven_at:
        reason = "The wallet has paid; we wait for the payment to arrive."
        return LivePayment(reason, _unless_past(invoice.final_at))
    if payment and payment.refusal_final_at:
        reason = "The wallet has refused; we check that no payment arrives."
        return LivePayment(reason, _unless_past(payment.refusal_final_at))
    reason = "It may still be paid by Lightning."
    if payment:
        reason = "A payment by the tenant's wallet is in progress."
    return LivePayment(reason, _unless_past(invoice.final_at))


def _by_stripe_invoice(
    rows: LightningInvoiceQuerySet, stripe_invoice_ids: Iterable[str]
) -> dict[str, LivePayment]:
    found: dict[str, LivePayment] = {}
    live = rows.filter(stripe_invoice_id__in=stripe_invoice_ids)
    for row in live.select_related("payment").order_by("expires_at"):
        found[row.stripe_invoice_id] = _later(
            found.get(row.stripe_invoice_id), describe(row)
        )
    return found


def _later(first: LivePayment | None, second: LivePayment) -> LivePayment:
    """Return the one that lasts longer; one without an end lasts longest."""
    if first is None or second.until is None:
        return second
    is_longer = first.until is None or first.until > second.until
    return first if is_longer else second


def _unless_past(time: datetime) -> datetime | None:
    return time if time > timezone.now() else None
