"""Events on invoices, cards and customers: they only say where to look."""

from collections.abc import Callable

from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.models import InvoiceCollection, StripeEvent
from billing.services.collection.attempts import start_attempt_for_tenant
from billing.services.customers.customer import clear_customer, is_gone
from billing.services.invoices.records import record_and_enqueue, revision_of
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant

Effect = Callable[[], str]
Action = InvoiceCollection.Action


def invoice_changed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Keep what the invoice is now, and have it looked at."""
    invoice_id = str(event.data["object"]["id"])
    since = revision_of(invoice_id)
    found = stripe.get_invoice(invoice_id)
    return lambda: _look_at(found, tenant, since)


def invoice_overdue(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """End the grace now: an Automation of the operator's at Stripe says so."""
    look_at = invoice_changed(stripe, event, tenant)
    invoice_id = str(event.data["object"]["id"])
    return lambda: f"{look_at()}{_end_grace(invoice_id)}"


def card_attached(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Have what is open collected by the new card."""
    return lambda: _by_new_card(tenant)


def card_detached(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Each attempt looks at the customer's cards of then."""
    return lambda: "the next attempt will see it"


def customer_deleted(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Start over with another customer, if this one is really gone."""
    customer = str(event.data["object"]["id"])
    if not is_gone(stripe, customer):
        return lambda: "the customer is there"
    return lambda: _start_over(tenant, customer)


def _look_at(found: Invoice, tenant: Tenant, since: int) -> str:
    collection = record_and_enqueue(found, tenant, since=since)
    if collection is None:
        return "an invoice that is not of our subscriptions"
    return f"the invoice is {collection.stripe_status}: collection enqueued"


def _end_grace(invoice_id: str) -> str:
    now = timezone.now()
    rows = InvoiceCollection.objects.unpaid().filter(pk=invoice_id)
    return (
        "; its grace is over"
        if rows.filter(suspend_at__gt=now).update(suspend_at=now)
        else ""
    )


def _by_new_card(tenant: Tenant) -> str:
    count = start_attempt_for_tenant(tenant_id=tenant.pk, first=Action.CARD)
    return f"a new card for {count} open invoices"


def _start_over(tenant: Tenant, customer: str) -> str:
    if tenant.stripe_customer_id != customer:
        return "no tenant has this customer any more"
    clear_customer(tenant)
    mark_stale(tenant_id=tenant.pk)
    return "the customer was deleted at Stripe: sync enqueued"
