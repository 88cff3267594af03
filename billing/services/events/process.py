"""Processes stored events: at least once, with one effect each."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.errors import (
    StripeNotExecuted,
    StripeNotFound,
    StripeUnavailable,
)
from billing.exceptions import ReversalChanged, UnknownCustomer, UnreadableEvent
from billing.models import InvoiceCollection, StripeEvent
from billing.services.events import cards, catalog, invoices, reversals
from billing.services.events.effects import Effect, no_effect
from billing.services.events.shape import check_shape
from billing.services.events.subscriptions import (
    subscription_changed,
    subscription_created,
)
from billing.services.invoices.ownership import TENANT_KEY
from caravel.core.db.work_items import failure_columns
from caravel.core.exceptions import CaravelError
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: With the back-off of `caravel.core.db.work_items`, about 17 hours.
MAX_FAILURES = 25
#: How often an event is read again at once before it waits for its next attempt.
_MAX_READS = 3
#: How long to wait for an unknown customer: its event can arrive before our commit.
UNKNOWN_FOR = timedelta(hours=1)

Status = StripeEvent.Status
_NO_ERROR = {"last_error": "", "last_error_code": ""}
Handler = Callable[[Stripe, StripeEvent, Tenant], Effect]

HANDLERS: dict[str, Handler] = {
    "customer.subscription.created": subscription_created,
    "customer.subscription.updated": subscription_changed,
    "customer.subscription.deleted": subscription_changed,
    "customer.subscription.paused": subscription_changed,
    "customer.subscription.resumed": subscription_changed,
    "invoice.created": invoices.invoice_created,
    "invoice.updated": invoices.invoice_updated,
    "invoice.finalized": invoices.invoice_finalized,
    "invoice.finalization_failed": invoices.finalization_failed,
    "invoice.paid": invoices.invoice_changed,
    "invoice.payment_failed": invoices.invoice_changed,
    "invoice.overdue": invoices.invoice_overdue,
    "invoice.voided": invoices.invoice_changed,
    "invoice.marked_uncollectible": invoices.invoice_changed,
    "credit_note.created": invoices.credit_note_changed,
    "credit_note.updated": invoices.credit_note_changed,
    "credit_note.voided": invoices.credit_note_changed,
    "payment_intent.processing": cards.payment_started,
    "payment_intent.requires_action": cards.payment_started,
    "payment_method.attached": cards.card_attached,
    "payment_method.automatically_updated": cards.card_updated,
    "payment_method.detached": cards.card_detached,
    "payment_method.updated": cards.card_updated,
    "customer.updated": cards.customer_updated,
    "customer.deleted": invoices.customer_deleted,
    "refund.created": reversals.reversal_changed,
    "refund.updated": reversals.reversal_changed,
    "refund.failed": reversals.reversal_changed,
    "charge.refunded": reversals.reversal_changed,
    "charge.refund.updated": reversals.reversal_changed,
    "charge.dispute.created": reversals.reversal_changed,
    "charge.dispute.updated": reversals.reversal_changed,
    "charge.dispute.closed": reversals.reversal_changed,
    "charge.dispute.funds_withdrawn": reversals.reversal_changed,
    "charge.dispute.funds_reinstated": reversals.reversal_changed,
    "radar.early_fraud_warning.created": reversals.reversal_changed,
    "radar.early_fraud_warning.updated": reversals.reversal_changed,
}
#: Handlers of events that concern no single tenant.
ACCOUNT_HANDLERS: dict[str, Callable[[Stripe, StripeEvent], Effect]] = {
    "price.updated": catalog.price_changed,
    "price.deleted": catalog.price_changed,
    "product.updated": catalog.product_changed,
}
EVENT_TYPES = HANDLERS.keys() | ACCOUNT_HANDLERS.keys()


def process_event(*, event_id: str) -> StripeEvent:
    """Process a received event; any other is returned as it is.

    The object is read again from Stripe. The effect and the event's `processed` status
    are one transaction. Expected failures are recorded and retried by the sweep;
    unexpected ones are recorded and raised.
    """
    event = StripeEvent.objects.get(pk=event_id)
    if event.status == Status.RECEIVED:
        process_received(event)
    return event


def process_received(event: StripeEvent) -> None:
    """Process an event that was received when it was read."""
    try:
        _process(event)
    except CaravelError as exc:
        _record_failure(event, exc)
    except Exception as exc:
        _record_failure(event, exc)
        raise


def requeue_event(*, event_id: str) -> bool:
    """Make an event due again, also a processed one; return False if it is unknown.

    Its effect is what the object's present state at Stripe asks for, or none if the
    handler leaves what has changed to another event (ADR 47).
    """
    now = timezone.now()
    return bool(
        StripeEvent.objects.filter(pk=event_id).update(
            status=Status.RECEIVED,
            processed_at=None,
            outcome="",
            failures=0,
            received_at=now,
            next_attempt_at=now,
            enqueued_at=now,
        )
    )


def _process(event: StripeEvent) -> None:
    if event.type in EVENT_TYPES:
        check_shape(event.type, event.data)
    if account_handler := ACCOUNT_HANDLERS.get(event.type):
        return _finish(event, None, account_handler(Stripe(), event))
    handler = HANDLERS.get(event.type)
    if handler is None:
        return _close(event, "no handler for this type")
    customer = _customer_id(event)
    tenant = _find_tenant(event, customer)
    if tenant is None:
        return _process_unknown_customer(event, customer)
    with structlog.contextvars.bound_contextvars(tenant=tenant.pk):
        return _apply(handler, event, tenant)


def _apply(handler: Handler, event: StripeEvent, tenant: Tenant) -> None:
    """Apply a handler's effect; read again if another event was faster.

    One refund or dispute sends several events, which are processed at the same time.
    """
    for _ in range(_MAX_READS):
        try:
            return _finish(event, tenant, handler(Stripe(), event, tenant))
        except ReversalChanged:
            logger.info("event_read_again", type=event.type)
    return _finish(event, tenant, handler(Stripe(), event, tenant))


def _find_tenant(event: StripeEvent, customer: str) -> Tenant | None:
    if event.tenant:
        # Processed before: the tenant may have another customer since.
        return event.tenant
    tenant = Tenant.objects.by_customer(customer).first() if customer else None
    if tenant is None and event.type.startswith(("invoice.", "credit_note.")):
        # An invoice outlives its customer.
        sent = event.data["object"]
        rows = InvoiceCollection.objects.select_related("tenant")
        invoice = rows.filter(pk=sent.get("invoice") or sent.get("id", "")).first()
        return invoice.tenant if invoice else None
    if tenant is None and HANDLERS.get(event.type) == reversals.reversal_changed:
        return reversals.tenant_of_charge(event)
    return tenant


def _process_unknown_customer(event: StripeEvent, customer: str) -> None:
    """Wait UNKNOWN_FOR; then park the event if it names a tenant, else close it."""
    if timezone.now() - event.received_at < UNKNOWN_FOR:
        raise UnknownCustomer("No tenant has this customer yet.")
    if customer and _may_have_tenant(customer):
        return _park(event)
    return _finish(event, None, no_effect("not a customer of ours"))


def _may_have_tenant(customer: str) -> bool:
    try:
        return TENANT_KEY in Stripe().customers.get(customer).metadata
    except StripeNotFound:
        # Signed for us, but invisible to our key: support must find out why.
        return True


def _close(event: StripeEvent, outcome: str) -> None:
    """Mark an event that has no effect as processed, in one statement."""
    columns = {**_processed(outcome), **_NO_ERROR}
    if StripeEvent.objects.received().filter(pk=event.pk).update(**columns):
        _log_processed(event, outcome)


def _finish(event: StripeEvent, tenant: Tenant | None, effect: Effect) -> None:
    rows = StripeEvent.objects.filter(pk=event.pk)
    with transaction.atomic():
        # Not the whole row: its body is large.
        if not rows.received().select_for_update().values_list("pk").first():
            return
        outcome = effect()
        rows.update(tenant=tenant, **_processed(outcome), **_NO_ERROR)
    _log_processed(event, outcome)


def _processed(outcome: str) -> dict[str, object]:
    return {
        "outcome": outcome[:200],
        "status": Status.PROCESSED,
        "processed_at": timezone.now(),
    }


def _log_processed(event: StripeEvent, outcome: str) -> None:
    logger.info("event_processed", type=event.type, outcome=outcome[:200])


def _park(event: StripeEvent) -> None:
    received = StripeEvent.objects.received().filter(pk=event.pk)
    if received.update(status=Status.PARKED, enqueued_at=None):
        logger.error("event_parked", type=event.type)


def _record_failure(event: StripeEvent, error: Exception) -> None:
    columns = failure_columns(error, failures=event.failures, now=timezone.now())
    # Never give up while Stripe is unavailable: the event is still true afterwards.
    is_unavailable = isinstance(error, StripeUnavailable | StripeNotExecuted)
    is_hopeless = isinstance(error, UnreadableEvent)
    given_up = is_hopeless or (
        event.failures + 1 >= MAX_FAILURES and not is_unavailable
    )
    if given_up:
        columns["status"] = Status.FAILED
    StripeEvent.objects.received().filter(pk=event.pk).update(**columns)
    log = logger.error if given_up else logger.warning
    log("event_failed", type=event.type, error=str(error), given_up=given_up)


def _customer_id(event: StripeEvent) -> str:
    """Return the id of the event's customer, "" without one."""
    data = event.data
    if data["object"].get("object") == "customer":
        return str(data["object"]["id"])
    # A detached payment method has no customer any more.
    previous = data.get("previous_attributes") or {}
    customer = data["object"].get("customer") or previous.get("customer")
    if not customer and HANDLERS.get(event.type) == reversals.reversal_changed:
        return reversals.customer_of_charge(event)
    return str(customer or "")
