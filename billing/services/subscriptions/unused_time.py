"""The billed time that an ended subscription did not serve, in cents per invoice.

The cost of each line, after its discounts and with its taxes, is prorated linearly:
unused = cost × remaining time / period. Stripe's own proration credits are negative
lines and cancel out. What was given or taken back of an invoice counts first against
its unused time. The sum of all credits for an end is rounded once, and only then
distributed over the invoices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from billing.clients.stripe.client import Invoice, Line, Stripe, Subscription
from billing.services.invoices.amounts import InvoiceAmounts
from billing.services.invoices.holds import is_left_to_staff
from billing.services.invoices.records import record_invoice, revisions_of
from billing.services.stripe_writes.cancellations import EndTerms
from caravel.core.currencies import charge_increment
from tenants.models import Tenant

#: Lines that an invoice object includes; more have to be listed:
#: https://docs.stripe.com/api/invoices/object
_INCLUDED_LINES = 10
#: Seconds by which a final invoice may be older than the end of the subscription.
CLOCK_SKEW = 60
#: Order in which invoices are credited: a credit may wait while one is uncollectible.
_ORDER = {"draft": 0, "open": 0, "paid": 1, "uncollectible": 2}


@dataclass(frozen=True)
class BilledInvoice:
    """An invoice with all of its lines."""

    invoice: Invoice
    lines: tuple[Line, ...]


@dataclass
class Share:
    """An invoice's share of the unused time of an ended subscription, in cents.

    `unserved` is what its lines cost after the end, `credited` the sum of its credits
    for the end so far, `taken` its part of the credit that is being distributed.
    """

    billed: BilledInvoice
    amounts: InvoiceAmounts
    own: Fraction
    credited: int = 0
    taken: int = 0

    @property
    def invoice(self) -> Invoice:
        return self.billed.invoice

    @property
    def is_paid(self) -> bool:
        return self.invoice.status == "paid"

    @property
    def unserved(self) -> int:
        return max(0, self._round(self.own))

    @property
    def returned(self) -> int:
        """Part of the unserved amount that was given or taken back already."""
        return min(self.amounts.returned_cents, self.unserved)

    @property
    def kept(self) -> int:
        """Billed amount that was not returned; a dispute debt is owed by itself."""
        given_back = self.amounts.given_back_cents
        return self.amounts.total_cents - max(given_back, self.returned)

    @property
    def lacking(self) -> int:
        """Credit that its own lines still lack; negative for Stripe's credits."""
        recorded = self.credited + self.taken
        return self._round(self.own) - self.returned - recorded

    def take_own(self, left: int) -> int:
        """Take what the invoice's own lines still lack; returns the cents."""
        return self.take(min(self.lacking, self._limit, left))

    def take_rest(self, left: int) -> int:
        """Take the rest of other invoices, up to the limit; returns the cents."""
        return self.take(min(self._limit, left))

    def take(self, cents: int) -> int:
        taken = max(0, cents)
        self.taken += taken
        return taken

    @property
    def _limit(self) -> int:
        return self.amounts.creditable_cents - self.credited - self.taken

    def _round(self, amount: Fraction) -> int:
        return round_amount(amount, self.invoice.currency)


def list_billed_invoices(
    stripe: Stripe, tenant: Tenant, subscription_id: str
) -> list[BilledInvoice]:
    """Return a subscription's invoices, newest first, after recording each.

    Void ones, and those that are left to staff, are left out: they may never be owed.
    """
    billed = []
    # Before the request: a record that changes in between is newer than the answer.
    known = revisions_of(subscription_id)
    for invoice in stripe.invoices.list(subscription=subscription_id):
        since = known.get(invoice.id, 0)
        recorded = record_invoice(invoice=invoice, tenant=tenant, since=since)
        if not recorded or invoice.status == "void" or is_left_to_staff(invoice):
            continue
        lines = invoice.lines
        if len(lines) >= _INCLUDED_LINES:
            lines = tuple(stripe.invoices.list_lines(invoice.id))
        billed.append(BilledInvoice(invoice, lines))
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
    """Return the exact cost of the lines for the time after `at`, in cents."""
    costs = (line.cost * _remaining_fraction(line, at) for line in lines)
    return sum(costs, Fraction())


def used_cents(lines: Iterable[Line], at: int) -> Fraction:
    """Return the exact cost of the lines for the time until `at`, in cents."""
    costs = (line.cost * (1 - _remaining_fraction(line, at)) for line in lines)
    return sum(costs, Fraction())


def total_credit(shares: Sequence[Share], terms: EndTerms) -> int:
    """Return the sum of all credits for an end, in cents; negative for a debit.

    Pending lines will still be billed; deleted ones never will, so their used part
    reduces the sum. If Stripe prorated for us, only what was returned is left to do. No
    more is credited than was billed and not returned, or is owed again.
    """
    if not shares:
        return 0
    returned = sum(share.returned for share in shares)
    exact = sum((share.own for share in shares), Fraction())
    exact += unused_cents(terms.pending, terms.at) - used_cents(terms.deleted, terms.at)
    # Without the differences between Stripe's rounding and ours.
    unused = 0 if terms.prorated else round_amount(exact, shares[0].invoice.currency)
    if not any(share.amounts.returned_cents for share in shares):
        return unused
    kept = sum(share.kept for share in shares)
    kept += sum(line.cost for line in terms.pending)
    return min(unused - returned, kept)


def distribute(cents: int, shares: Sequence[Share]) -> None:
    """Distribute a credit over the invoices; its parts add up exactly.

    Each invoice first takes its own unused time. The rest goes where there is room, and
    what exceeds all invoices to the first of them. A debit is of one invoice.
    """
    if cents < 0:
        # One that cannot become void, of which most was returned.
        debited = max(shares, key=lambda each: (each.is_paid, each.returned))
        debited.taken += cents
        return
    ordered = sorted(shares, key=lambda share: _ORDER[share.invoice.status])
    left = cents
    for share in ordered:
        left -= share.take_own(left)
    for share in ordered:
        left -= share.take_rest(left)
    if ordered:
        ordered[0].take(left)


def shift_to_open(shares: Sequence[Share]) -> None:
    """Have unused time that Stripe has credited reduce open invoices instead.

    Stripe's final invoice credits the balance, which pays no invoice that is open: the
    tenant would be asked for time that is not served.
    """
    final = [each for each in shares if each.is_paid and each.own < 0]
    unpaid = [each for each in shares if each.invoice.status == "open"]
    for source, share in product(final, unpaid):
        remaining = share.invoice.amount_remaining - max(0, share.taken)
        source.taken -= share.take_own(min(-source.lacking, remaining))


def round_amount(amount: Fraction, currency: str) -> int:
    """Round half to even, to an amount that the currency can be charged."""
    increment = charge_increment(currency)
    return round(amount / increment) * increment


def _remaining_fraction(line: Line, at: int) -> Fraction:
    """Return the fraction of a line's period that remains at `at`, from 0 to 1."""
    length = line.period_end - line.period_start
    if length <= 0:
        return Fraction(0)
    remaining = Fraction(line.period_end - at, length)
    return max(Fraction(0), min(remaining, Fraction(1)))
