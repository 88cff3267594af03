"""Credits for the end of a subscription, and their corrections.

A later refund, dispute or credit note of staff changes what an end should have
credited. `recredit_end` computes it again, on the terms stored with the cancellation,
and records the difference, when `credits.recredit` has requested it.
"""

from collections.abc import Sequence

import structlog
from django.db import transaction
from django.db.models import Sum

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.types import to_datetime
from billing.exceptions import CreditPending
from billing.models import Credit, InvoiceCollection
from billing.models.credits import CreditQuerySet
from billing.services.credits.posting import post_credits, record_credit
from billing.services.invoices.amounts import invoice_amounts
from billing.services.invoices.locks import lock_collection
from billing.services.reversals.debts import refresh_dispute_debt
from billing.services.stripe_writes import cancellations
from billing.services.stripe_writes.cancellations import EndTerms
from billing.services.subscriptions.unused_time import (
    BilledInvoice,
    Share,
    distribute,
    list_billed_invoices,
    shift_to_open,
    total_credit,
    unused_cents,
)
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: Credits by id, with the id of the credit note of each.
Notes = frozenset[tuple[int, str]]


def recredit_changed_ends(stripe: Stripe, tenant_id: str) -> None:
    """Correct the credits for all ends of a tenant for which this was requested."""
    for subscription_id in cancellations.changed_subscriptions(tenant_id):
        tenant = Tenant.objects.get(pk=tenant_id)
        try:
            recredit_end(stripe, tenant, subscription_id)
        except CreditPending as exc:
            # The request stays, and must not keep other changes from being made.
            logger.warning("recredit_waits", error=exc.message)


def recredit_end(stripe: Stripe, tenant: Tenant, subscription_id: str) -> None:
    """Correct the credits for the end of a subscription, from the present amounts.

    Idempotent. Does nothing until the end was credited. Raises CreditPending while a
    credit note of ours is unresolved.
    """
    change = cancellations.latest_change(subscription_id)
    if cancellations.stored_end_terms(subscription_id) is None:
        return
    post_credits(tenant_id=tenant.pk, stripe=stripe)
    notes = own_notes(subscription_id)
    billed = list_billed_invoices(stripe, tenant, subscription_id)
    with transaction.atomic():
        Tenant.objects.lock(tenant.pk)
        terms = cancellations.stored_end_terms(subscription_id)
        if terms is not None:
            credit_end(tenant, subscription_id, terms, billed, notes)
            cancellations.mark_change_credited(subscription_id, change)
    post_credits(tenant_id=tenant.pk, stripe=stripe)


def own_notes(subscription_id: str) -> Notes:
    """Return Caravel's credit notes on a subscription's invoices, to be read before."""
    credits = Credit.objects.filter(
        collection__stripe_subscription_id=subscription_id, note_cents__gt=0
    )
    return frozenset(credits.values_list("pk", "credit_note_id"))


def credit_end(
    tenant: Tenant,
    subscription_id: str,
    terms: EndTerms,
    billed: Sequence[BilledInvoice],
    notes: Notes,
) -> None:
    """Record the difference between due and recorded credits, for a locked tenant.

    `notes` were read before the invoices. Raises CreditPending if they have changed:
    one could be taken for a note of staff, or the other way round.
    """
    if notes != own_notes(subscription_id) or "" in dict(notes).values():
        raise CreditPending("A credit note of the subscription is under way.")
    shares = [_share(tenant, subscription_id, each, terms) for each in billed]
    # Lock order: rows by primary key.
    for share in sorted(shares, key=lambda share: share.invoice.id):
        _save_unserved(share)
    difference = total_credit(shares, terms) - sum(each.credited for each in shares)
    distribute(difference, shares)
    if not terms.prorated:
        shift_to_open(shares)
    for share in shares:
        if share.taken:
            _record(tenant, subscription_id, terms, share, share.taken)


def _save_unserved(share: Share) -> None:
    """Store what of an invoice was not served, on which its dispute debt depends."""
    collection = lock_collection(share.invoice.id)
    collection.unserved_cents = share.unserved
    collection.given_back_cents = share.amounts.given_back_cents
    InvoiceCollection.objects.filter(pk=collection.pk).update(
        unserved_cents=collection.unserved_cents,
        given_back_cents=collection.given_back_cents,
    )
    refresh_dispute_debt(collection)


def _share(
    tenant: Tenant, subscription_id: str, billed: BilledInvoice, terms: EndTerms
) -> Share:
    credits = _credits(tenant, subscription_id, billed)
    return Share(
        billed=billed,
        amounts=invoice_amounts(billed.invoice),
        own=unused_cents(billed.lines, terms.at),
        credited=int(credits.aggregate(cents=Sum("amount_cents", default=0))["cents"]),
    )


def _credits(
    tenant: Tenant, subscription_id: str, billed: BilledInvoice
) -> CreditQuerySet:
    """Return the credits of an invoice for the end of its subscription."""
    return Credit.objects.filter(
        tenant=tenant,
        reason=Credit.Reason.UNSERVED,
        source__startswith=f"{subscription_id}:{billed.invoice.id}:end",
    )


def _record(
    tenant: Tenant, subscription_id: str, terms: EndTerms, share: Share, cents: int
) -> None:
    number = _credits(tenant, subscription_id, share.billed).count() + 1
    suffix = f":{number}" if number > 1 else ""
    period_end = max(line.period_end for line in share.billed.lines)
    record_credit(
        tenant_id=tenant.pk,
        reason=Credit.Reason.UNSERVED,
        source=f"{subscription_id}:{share.invoice.id}:end{suffix}",
        currency=share.invoice.currency,
        amount_cents=cents,
        collection_id=share.invoice.id,
        covers_from=to_datetime(terms.at),
        covers_until=to_datetime(period_end),
    )
