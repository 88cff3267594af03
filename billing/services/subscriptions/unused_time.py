"""What was billed of a subscription and not served, when it came to its end.

A line bills its period evenly, so that what was not served of it at a moment is the
share of the time that was left. Lines that Stripe itself has credited, or will, have
the other sign, and net out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from billing.clients.stripe.client import Invoice, Line, Stripe, Subscription
from billing.models import Credit
from billing.services.credits.allocation import paid_cents, surplus_credited_cents
from billing.services.credits.posting import record_credit
from billing.services.invoices.records import record_invoice, revisions_of
from caravel.core.currencies import charge_increment
from tenants.models import Tenant

#: An invoice of Stripe's carries its first ten lines; the others are asked for.
_LINES_SHOWN = 10
#: How much older than the end the invoice may be that was made of it.
_CLOCK_SKEW = 60


@dataclass(frozen=True)
class BilledInvoice:
    """An invoice with all of its lines, and what a surplus has taken off it."""

    invoice: Invoice
    lines: tuple[Line, ...]
    surplus_credit_cents: int = 0

    @property
    def is_paid(self) -> bool:
        return self.invoice.status == "paid"

    @property
    def most(self) -> int:
        """What can be credited, in cents: what is owed still, and what was paid.

        One that was written off takes no credit note.
        """
        owed = self.invoice.status in {"open", "draft"}
        remaining = self.invoice.amount_remaining if owed else 0
        paid = paid_cents(self.invoice, surplus_credit_cents=self.surplus_credit_cents)
        return max(0, remaining) + paid


@dataclass(frozen=True)
class UnusedTime:
    """So many cents of an invoice were billed for time that was not served."""

    invoice: Invoice
    cents: int
    until: datetime


def list_billed_invoices(
    stripe: Stripe, tenant: Tenant, subscription_id: str
) -> list[BilledInvoice]:
    """Return, newest first, the invoices of ours that bill, having recorded each."""
    billed = []
    known = revisions_of(subscription_id)
    for invoice in stripe.list_invoices(subscription=subscription_id):
        if invoice.status == "void":
            continue
        since = known.get(invoice.id, 0)
        if not record_invoice(invoice=invoice, tenant=tenant, since=since):
            continue
        lines = invoice.lines
        if len(lines) >= _LINES_SHOWN:
            lines = tuple(stripe.list_lines(invoice.id))
        billed.append(BilledInvoice(invoice, lines, surplus_credited_cents(invoice.id)))
    return billed


def ended_at(subscription: Subscription) -> int:
    """Return when a subscription that has ended did, in seconds of the epoch."""
    ended = subscription.ended_at or subscription.canceled_at
    if ended is None:
        raise ValueError(f"{subscription.id} has not ended.")
    return ended


def is_settled_by_stripe(billed: Iterable[BilledInvoice], at: int) -> bool:
    """Return whether there is the invoice that Stripe makes of a cancellation."""
    regular = {"subscription_create", "subscription_cycle"}
    return any(
        each.invoice.billing_reason not in regular
        and each.invoice.created >= at - _CLOCK_SKEW
        for each in billed
    )


def unused_cents(lines: Iterable[Line], at: int) -> Fraction:
    """Return what the lines bill of the time from `at` on, exactly, in cents."""
    return sum((line.amount * _left(line, at) for line in lines), Fraction())


def used_cents(lines: Iterable[Line], at: int) -> Fraction:
    """Return what the lines bill of the time until `at`, exactly, in cents."""
    return sum((line.amount * (1 - _left(line, at)) for line in lines), Fraction())


def unused_time(
    billed: Sequence[BilledInvoice],
    *,
    at: int,
    pending: Iterable[Line] = (),
    deleted: Iterable[Line] = (),
) -> list[UnusedTime]:
    """Return what is to be credited, by invoice, when service ended at `at`.

    `pending` is still to be billed; `deleted` never will be, though it was served in
    part. What of the sum one invoice cannot bear goes to the others; those that are
    not paid come first. Rounded once per invoice, half to even.
    """
    own = [unused_cents(each.lines, at) for each in billed]
    most = [Fraction(each.most) for each in billed]
    left = sum(own, Fraction())
    left += unused_cents(pending, at) - used_cents(deleted, at)
    cents = [0] * len(billed)
    unpaid_first = sorted(range(len(billed)), key=lambda n: billed[n].is_paid)
    # First what is each one's own, then whatever is left.
    for bounds in (own, most):
        for n in unpaid_first:
            taken = max(Fraction(), min(bounds[n], most[n], left + cents[n]) - cents[n])
            rounded = _rounded(taken, billed[n].invoice.currency)
            cents[n] += rounded
            left -= rounded
    return [
        UnusedTime(each.invoice, amount, _until(each.lines))
        for each, amount in zip(billed, cents, strict=True)
        if amount > 0
    ]


def credit_unused_time(
    tenant: Tenant, subscription_id: str, at: int, found: Iterable[UnusedTime]
) -> None:
    """Record a credit for each invoice, in the caller's transaction, once."""
    for each in found:
        record_credit(
            tenant_id=tenant.pk,
            reason=Credit.Reason.UNSERVED,
            source=f"{subscription_id}:{each.invoice.id}:end",
            currency=each.invoice.currency,
            amount_cents=each.cents,
            collection_id=each.invoice.id,
            covers_from=datetime.fromtimestamp(at, UTC),
            covers_until=each.until,
        )


def _left(line: Line, at: int) -> Fraction:
    """Return the share of a line's period that is left at a moment, from 0 to 1."""
    length = line.period_end - line.period_start
    if length <= 0:
        return Fraction(0)
    left = Fraction(line.period_end - at, length)
    return max(Fraction(0), min(left, Fraction(1)))


def _rounded(amount: Fraction, currency: str) -> int:
    return round(amount / charge_increment(currency)) * charge_increment(currency)


def _until(lines: Iterable[Line]) -> datetime:
    return datetime.fromtimestamp(max(line.period_end for line in lines), UTC)
