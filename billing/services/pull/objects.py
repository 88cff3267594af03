"""Discovers invoices and reversals at Stripe whose events were lost."""

from datetime import timedelta
from functools import partial

from billing.clients.stripe.client import Invoice, Stripe
from billing.models import InvoiceCollection
from billing.services.collection.drafts import record_new
from billing.services.invoices.records import enqueue_collection, matches
from billing.services.pull.cursors import Window, read_new
from billing.services.reversals.discover import discover_reversals
from tenants.models import Tenant

INVOICES, REVERSALS = "invoices", "reversals"
#: The first discovery: one billing period.
_FIRST = timedelta(days=31)
#: Also finds what happened to an object in its first hours.
_OVERLAP = timedelta(hours=12)


def discover_objects() -> None:
    """List what was created at Stripe since the last discovery, and record it.

    Invoices first, since reversals refer to them.
    """
    stripe = Stripe()
    read = partial(read_new, first=_FIRST, overlap=_OVERLAP)
    read(INVOICES, read=partial(_discover_invoices, stripe))
    read(
        REVERSALS,
        read=lambda window: discover_reversals(stripe, window.start),
        split=lambda start: [Window(start)],
    )


def _discover_invoices(stripe: Stripe, window: Window) -> None:
    """Record unknown invoices, and enqueue the collection of changed ones."""
    invoices = stripe.invoices.list(created=window.created)
    rows = InvoiceCollection.objects.in_bulk([invoice.id for invoice in invoices])
    tenants = _tenants_by_reference(invoices)
    for invoice in reversed(invoices):
        stored = rows.get(invoice.id)
        tenant = tenants.get(invoice.customer) or tenants.get(invoice.tenant_pubkey)
        if stored is None and tenant:
            record_new(invoice, tenant)
        elif stored and not matches(stored, invoice):
            enqueue_collection(invoice_id=stored.pk)


def _tenants_by_reference(invoices: list[Invoice]) -> dict[str | None, Tenant]:
    """Return the tenants of invoices, by customer id and by pubkey.

    An invoice outlives its customer, and a tenant may have another one since.
    """
    customers = {invoice.customer for invoice in invoices}
    pubkeys = {invoice.tenant_pubkey for invoice in invoices}
    found = Tenant.objects.filter(stripe_customer_id__in=customers)
    by_customer = {tenant.stripe_customer_id: tenant for tenant in found}
    return by_customer | Tenant.objects.in_bulk(pubkeys)
