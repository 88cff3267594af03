"""Acting on stored events: at least once processed, each effect once."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import (
    StripeNotFound,
    StripeRateLimited,
    StripeUnavailable,
    UnknownCustomer,
)
from billing.models import InvoiceCollection, StripeEvent
from billing.services.events import invoices
from billing.services.events.subscriptions import Effect, subscription_changed
from caravel.core.db.work_items import failure_columns
from caravel.core.exceptions import CaravelError
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: With the back-off of `caravel.core.db.work_items` these span about 17 hours.
MAX_FAILURES = 25
#: How long a customer may be unknown: our own commit can be later than the event.
UNKNOWN_FOR = timedelta(hours=1)

Status = StripeEvent.Status
Handler = Callable[[Stripe, StripeEvent, Tenant], Effect]

HANDLERS: dict[str, Handler] = {
    "customer.subscription.updated": subscription_changed,
    "customer.subscription.deleted": subscription_changed,
    "invoice.created": invoices.invoice_changed,
    "invoice.finalized": invoices.invoice_changed,
    "invoice.paid": invoices.invoice_changed,
    "invoice.payment_failed": invoices.invoice_changed,
    "invoice.overdue": invoices.invoice_overdue,
    "invoice.voided": invoices.invoice_changed,
    "invoice.marked_uncollectible": invoices.invoice_changed,
    "payment_method.attached": invoices.card_attached,
    "payment_method.detached": invoices.card_detached,
    "customer.deleted": invoices.customer_deleted,
}


def process_event(*, event_id: str) -> StripeEvent:
    """Process a received event; one that is done already is left as it is.

    The object is read anew from Stripe, then the effect and the mark that it is
    processed are one transaction. An expected failure is recorded and retried by the
    sweep; an unexpected one is recorded and raised.
    """
    event = StripeEvent.objects.get(pk=event_id)
    if event.status != Status.RECEIVED:
        return event
    try:
        _process(event)
    except CaravelError as exc:
        _record_failure(event, exc)
    except Exception as exc:
        _record_failure(event, exc)
        raise
    return event


def requeue_event(*, event_id: str) -> bool:
    """Give a failed or parked event another chance; returns False for any other."""
    given_up = StripeEvent.objects.filter(status__in=[Status.FAILED, Status.PARKED])
    now = timezone.now()
    return bool(
        given_up.filter(pk=event_id).update(
            status=Status.RECEIVED,
            failures=0,
            received_at=now,
            next_attempt_at=now,
            enqueued_at=now,
        )
    )


def _process(event: StripeEvent) -> None:
    handler = HANDLERS.get(event.type)
    if handler is None:
        return _finish(event, None, lambda: "no handler for this type")
    customer = _customer_id(event)
    tenant = _tenant_of(event, customer)
    if tenant is None:
        return _process_unrouted(event, customer)
    with structlog.contextvars.bound_contextvars(tenant=tenant.pk):
        return _finish(event, tenant, handler(Stripe(), event, tenant))


def _tenant_of(event: StripeEvent, customer: str) -> Tenant | None:
    """Return whom an event is about: an invoice may outlive its customer."""
    tenant = Tenant.objects.by_customer(customer).first() if customer else None
    if tenant is None and event.type.startswith("invoice."):
        known = InvoiceCollection.objects.select_related("tenant")
        invoice = known.filter(pk=event.data["object"].get("id", "")).first()
        return invoice.tenant if invoice else None
    return tenant


def _process_unrouted(event: StripeEvent, customer: str) -> None:
    """Wait for a tenant to appear; then it is foreign, or somebody must look."""
    if timezone.now() - event.received_at < UNKNOWN_FOR:
        raise UnknownCustomer("No tenant has this customer yet.")
    if customer and _may_be_ours(customer):
        return _park(event)
    return _finish(event, None, lambda: "a customer that is not ours")


def _may_be_ours(customer: str) -> bool:
    try:
        return "tenant_pubkey" in Stripe().get_customer(customer).metadata
    except StripeNotFound:
        # Signed for us, about a customer that our key does not see: a person's matter.
        return True


def _finish(event: StripeEvent, tenant: Tenant | None, effect: Effect) -> None:
    with transaction.atomic():
        locked = StripeEvent.objects.select_for_update().get(pk=event.pk)
        if locked.status != Status.RECEIVED:
            return
        locked.outcome = effect()[:200]
        locked.tenant = tenant
        locked.status = Status.PROCESSED
        locked.processed_at = timezone.now()
        locked.last_error = locked.last_error_code = ""
        locked.save()
    logger.info("event_processed", type=event.type, outcome=locked.outcome)


def _park(event: StripeEvent) -> None:
    received = StripeEvent.objects.received().filter(pk=event.pk)
    if received.update(status=Status.PARKED, enqueued_at=None):
        logger.error("event_parked", type=event.type)


def _record_failure(event: StripeEvent, error: Exception) -> None:
    columns = failure_columns(error, failures=event.failures, now=timezone.now())
    # However long Stripe is away, the event is about something that has happened.
    is_away = isinstance(error, StripeUnavailable | StripeRateLimited)
    given_up = event.failures + 1 >= MAX_FAILURES and not is_away
    if given_up:
        columns["status"] = Status.FAILED
    StripeEvent.objects.received().filter(pk=event.pk).update(**columns)
    log = logger.error if given_up else logger.warning
    log("event_failed", type=event.type, error=str(error), given_up=given_up)


def _customer_id(event: StripeEvent) -> str:
    """Return the customer that an event is about.

    A detached payment method has none left: it is in `previous_attributes`.
    """
    data = event.data
    if data["object"].get("object") == "customer":
        return str(data["object"]["id"])
    previous = data.get("previous_attributes") or {}
    return str(data["object"].get("customer") or previous.get("customer") or "")
