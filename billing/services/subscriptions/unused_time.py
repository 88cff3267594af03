"""The billed time that an ended subscription did not serve, in cents per invoice.

Each line is prorated linearly: unused = amount × remaining time / period. Stripe's own
proration credits are negative lines and cancel out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from billing.clients.stripe.client import Invoice, Line, Stripe, Subscription
from billing.models import Credit
from billing.services.credits.allocation import paid_cents, surplus_credited_cents
from billing.services.credits.posting import record_credit
from billing.services.invoices.holds import is_left_to_staff
from billing.services.invoices.records import record_invoice, revisions_of
from caravel.core.currencies import charge_increment
from tenants.models import Tenant

#: Lines that an invoice object includes; more have to be listed:
#: https://docs.stripe.com/api/invoices/object
_INCLUDED_LINES = 10
#: Seconds by which a final invoice may be older than the end of the subscription.
CLOCK_SKEW = 60


@dataclass(frozen=True)
class BilledInvoice:
    """An invoice with all of its lines.

    `surplus_credit_cents` is the part of its credit notes that the tenant had paid.
    """

    invoice: Invoice
    lines: tuple[Line, ...]
    surplus_credit_cents: int = 0

    @property
    def is_paid(self) -> bool:
        return self.invoice.status == "paid"

    @property
    def creditable_cents(self) -> int:
        """Maximum creditable amount: the open remainder plus the paid amount.

        Uncollectible invoices accept no credit note.
        """
        is_owed = self.invoice.status in {"open", "draft"}
        remaining = self.invoice.amount_remaining if is_owed else 0
        paid = paid_cents(self.invoice, surplus_credit_cents=self.surplus_credit_cents)
        return max(0, remaining) + paid


@dataclass(frozen=True)
class UnusedTime:
    """The part of an invoice that is to be credited, and the end of its period."""

    invoice: Invoice
    cents: int
    until: datetime


@dataclass
class _Share:
    """An invoice's share of the unused time, while it is being distributed."""

    billed: BilledInvoice
    own: Fraction
    limit: Fraction
    taken: int = 0

    def take_own(self, left: Fraction) -> int:
        """Take the unused time of the invoice's own lines; returns the cents."""
        return self._take(min(self.own, self.limit, left))

    def take_rest(self, left: Fraction) -> int:
        """Take the rest of other invoices, up to the limit; returns the cents."""
        return self._take(min(self.limit - self.taken, left))

    def _take(self, amount: Fraction) -> int:
        increment = charge_increment(self.billed.invoice.currency)
        cents = round(max(Fraction(), amount) / increment) * increment
        self.taken += cents
        return cents

    def unused_time(self) -> UnusedTime:
        end = max(line.period_end for line in self.billed.lines)
        until = datetime.fromtimestamp(end, UTC)
        return UnusedTime(self.billed.invoice, self.taken, until)


def list_billed_invoices(
    stripe: Stripe, tenant: Tenant, subscription_id: str
) -> list[BilledInvoice]:
    """Return a subscription's invoices, newest first.

    Without void ones, and those that are left to staff: they may never be owed.

    Each is recorded, since its credit refers to the record.
    """
    billed = []
    # Before the request: a record that changes in between is newer than the answer.
    known = revisions_of(subscription_id)
    for invoice in stripe.invoices.list(subscription=subscription_id):
        if invoice.status == "void":
            continue
        since = known.get(invoice.id, 0)
        recorded = record_invoice(invoice=invoice, tenant=tenant, since=since)
        if not recorded or is_left_to_staff(invoice):
            continue
        lines = invoice.lines
        if len(lines) >= _INCLUDED_LINES:
            lines = tuple(stripe.invoices.list_lines(invoice.id))
        billed.append(BilledInvoice(invoice, lines, surplus_credited_cents(invoice.id)))
    return billed


def ended_at(subscription: Subscription) -> int:
    """Return the time of a subscription's end, in seconds since the epoch."""
    ended = subscription.ended_at or subscription.canceled_at
    if ended is None:
        raise ValueError(f"{subscription.id} has not ended.")
    return ended


def is_settled_by_stripe(billed: Iterable[BilledInvoice], at: int) -> bool:
    """Return whether Stripe has made a final invoice for the cancellation."""
    # The invoice of a cancellation has another reason, such as `subscription_update`.
    regular = {"subscription_create", "subscription_cycle"}
    return any(
        each.invoice.billing_reason not in regular
        and each.invoice.created >= at - CLOCK_SKEW
        for each in billed
    )


def unused_cents(lines: Iterable[Line], at: int) -> Fraction:
    """Return the exact amount of the lines for the time after `at`, in cents."""
    amounts = (line.amount * _remaining_fraction(line, at) for line in lines)
    return sum(amounts, Fraction())


def used_cents(lines: Iterable[Line], at: int) -> Fraction:
    """Return the exact amount of the lines for the time until `at`, in cents."""
    amounts = (line.amount * (1 - _remaining_fraction(line, at)) for line in lines)
    return sum(amounts, Fraction())


def unused_time(
    billed: Sequence[BilledInvoice],
    *,
    at: int,
    pending: Iterable[Line] = (),
    deleted: Iterable[Line] = (),
) -> list[UnusedTime]:
    """Return the amount to credit per invoice for a service that ended at `at`.

    `pending` lines will still be billed; `deleted` ones never will, so their used part
    reduces the sum. Excess over an invoice's maximum spills over to the others, unpaid
    invoices first. Rounded half to even, to an amount that the currency can be charged.
    """
    shares = [
        _Share(each, unused_cents(each.lines, at), Fraction(each.creditable_cents))
        for each in billed
    ]
    left = sum((share.own for share in shares), Fraction())
    left += unused_cents(pending, at) - used_cents(deleted, at)
    unpaid_first = sorted(shares, key=lambda share: share.billed.is_paid)
    for share in unpaid_first:
        left -= share.take_own(left)
    for share in unpaid_first:
        left -= share.take_rest(left)
    return [share.unused_time() for share in shares if share.taken > 0]


def credit_unused_time(
    tenant: Tenant, subscription_id: str, at: int, unused: Iterable[UnusedTime]
) -> None:
    """Record a credit for each invoice, once, in the caller's transaction."""
    for each in unused:
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


def _remaining_fraction(line: Line, at: int) -> Fraction:
    """Return the fraction of a line's period that remains at `at`, from 0 to 1."""
    length = line.period_end - line.period_start
    if length <= 0:
        return Fraction(0)
    remaining = Fraction(line.period_end - at, length)
    return max(Fraction(0), min(remaining, Fraction(1)))
