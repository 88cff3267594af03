"""What follows when a tenant's subscription is over and we did not end it."""

from enum import StrEnum

import structlog
from django.db import transaction

from billing.clients.stripe.client import Subscription
from billing.models import InvoiceCollection
from billing.services.dunning.payment_block import refresh_payment_block
from billing.services.dunning.review import end_grace_now
from billing.services.stripe_writes.cancellations import is_ours, record_external_end
from billing.services.subscriptions.cancel import is_terminated
from billing.services.subscriptions.diff import LIVE
from relays.models import Relay
from relays.services.lifecycle import deactivate_relay
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: Stripe's reasons for an end that is about money not received.
NON_PAYMENT = frozenset({"payment_failed", "payment_disputed"})


class EndReason(StrEnum):
    """How a subscription came to its end, and so what becomes of the relays."""

    OURS = "ended by us"
    BY_PERSON = "cancelled by a person: paid relays made inactive"
    NON_PAYMENT = "unpaid: the grace of its invoices is over"
    EXEMPT = "unpaid, but the tenant is exempt"
    UNEXPLAINED = "ended without a reason: to be created anew"
    NOT_CURRENT = "not the current subscription: nothing changed"


def handle_subscription_ended(
    *, tenant_id: str, subscription_id: str, found: Subscription
) -> EndReason:
    """Forget a current subscription that no longer lives, and act on why.

    `found` is Stripe's present answer. Told twice, or of an old subscription, it
    changes nothing. What was not served, and what the tenant needs instead, is for the
    next sync to see: a caller that is not one marks it stale.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(tenant_id)
        if tenant.stripe_subscription_id != subscription_id:
            return EndReason.NOT_CURRENT
        ending = _classify(tenant, found)
        if is_terminated(found):
            record_external_end(tenant_id=tenant_id, subscription_id=subscription_id)
        if ending == EndReason.BY_PERSON:
            _deactivate_relays(tenant_id)
        if ending == EndReason.NON_PAYMENT:
            end_grace_now(tenant_id=tenant_id, invoice_ids=_unpaid_of(subscription_id))
        _forget(tenant)
    logger.info("subscription_ended", subscription=subscription_id, ending=ending.name)
    return ending


def clear_subscription(*, tenant_id: str) -> None:
    """Keep that a tenant has no subscription any more, with what follows from that."""
    with transaction.atomic():
        _forget(Tenant.objects.lock(tenant_id))


def is_inactive(found: Subscription) -> bool:
    """Return whether a subscription no longer serves and bills."""
    return found.status not in LIVE


def _classify(tenant: Tenant, found: Subscription) -> EndReason:
    if is_ours(found):
        return EndReason.OURS
    if found.cancel_reason == "cancellation_requested":
        return EndReason.BY_PERSON
    if found.cancel_reason in NON_PAYMENT or found.status == "unpaid":
        return EndReason.EXEMPT if tenant.dunning_exempt else EndReason.NON_PAYMENT
    return EndReason.UNEXPLAINED


def _forget(tenant: Tenant) -> None:
    """Forget the subscription of a locked tenant.

    Who owes something gets no other one: relays that still run, such as one that was
    switched on again during the cancellation, would be free for the rest of the grace.
    """
    billable = Relay.objects.billable().filter(tenant=tenant)
    if billable.exists() and not tenant.dunning_exempt:
        unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant)
        ids = list(unpaid.values_list("pk", flat=True))
        end_grace_now(tenant_id=tenant.pk, invoice_ids=ids)
    # Last: a unique column locks out who refers to the tenant and holds an invoice.
    Tenant.objects.filter(pk=tenant.pk).update(stripe_subscription_id=None)
    refresh_payment_block(tenant_id=tenant.pk)


def _deactivate_relays(tenant_id: str) -> None:
    billable = Relay.objects.billable().filter(tenant_id=tenant_id).order_by("pk")
    for relay_id in billable.values_list("pk", flat=True):
        deactivate_relay(relay_id=relay_id)


def _unpaid_of(subscription_id: str) -> list[str]:
    """Return the unpaid invoices of a subscription, as far as we know of them."""
    unpaid = InvoiceCollection.objects.unpaid()
    of_it = unpaid.filter(stripe_subscription_id=subscription_id)
    return list(of_it.values_list("pk", flat=True))
