"""Makes each tenant's one Stripe subscription match its relays."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from billing.clients.stripe.client import Stripe, Subscription
from billing.exceptions import CreditPending, CustomerGone, LeaseLost
from billing.services.credits.posting import post_credits
from billing.services.customers.customer import (
    CreateCustomer,
    clear_customer,
    detect_deleted_customer,
    ensure_customer,
    is_gone,
    update_customer,
)
from billing.services.dunning.payment_block import refresh_payment_block
from billing.services.invoices.records import discover_invoices
from billing.services.subscriptions.cancel import cancel, resume_cancellations
from billing.services.subscriptions.create import (
    CreateSubscription,
    save_subscription_id,
    send_invoice_params,
)
from billing.services.subscriptions.diff import (
    SubscriptionDiff,
    cap_to_current,
    desired_items,
    diff_subscriptions,
)
from billing.services.subscriptions.end_credits import recredit_changed_ends
from billing.services.subscriptions.ended import (
    clear_subscription,
    handle_subscription_ended,
    is_inactive,
)
from billing.services.sync.lease import Lease
from billing.services.sync.queue import mark_stale
from caravel.core.exceptions import CaravelError
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


class SyncOutcome(StrEnum):
    IN_SYNC = "in sync"
    STALE = "relays changed during the sync; enqueued again"
    NOT_DUE = "already in sync, held by another worker, or waiting after a failure"
    FAILED = "failed; the error is recorded and the sync will be retried"


@dataclass(frozen=True)
class Reconciliation:
    """A tenant's desired quantity per price, and how Stripe differs from it."""

    tenant: Tenant
    customer: str
    current_id: str | None
    desired: dict[str, int]
    diff: SubscriptionDiff


def sync_tenant(*, tenant_id: str) -> SyncOutcome:
    """Make Stripe match a tenant's relays, once for any number of concurrent calls.

    An expected failure is recorded on the tenant's sync and retried by the sweep;
    an unexpected one is recorded and raised.
    """
    lease = Lease.acquire(tenant_id)
    if lease is None:
        return SyncOutcome.NOT_DUE
    with structlog.contextvars.bound_contextvars(tenant=tenant_id):
        return _sync_with(lease)


def _sync_with(lease: Lease) -> SyncOutcome:
    try:
        _reconcile(lease.tenant_id, Stripe(before_try=lease.renew))
    except LeaseLost as exc:
        logger.warning("sync_lease_lost", error=exc.message)
        return SyncOutcome.NOT_DUE
    except CaravelError as exc:
        lease.release_failed(exc)
        logger.warning("sync_failed", code=exc.code, error=exc.message)
        return SyncOutcome.FAILED
    except Exception as exc:
        lease.release_failed(exc)
        raise
    return SyncOutcome.IN_SYNC if lease.release() else SyncOutcome.STALE


def _reconcile(tenant_id: str, stripe: Stripe) -> None:
    try:
        _reconcile_once(tenant_id, stripe)
    except CustomerGone:
        clear_customer(Tenant.objects.get(pk=tenant_id))
        _reconcile_once(tenant_id, stripe)


def _reconcile_once(tenant_id: str, stripe: Stripe) -> None:
    # Read before the relays. If an event ends the subscription and deactivates relays
    # in between, the id read here is still the old one, `_find_ended` notices, and the
    # relays are counted again.
    tenant = Tenant.objects.get(pk=tenant_id)
    resume_cancellations(stripe, tenant_id)
    recredit_changed_ends(stripe, tenant_id)
    if reconciliation := _compare(stripe, tenant):
        _apply(stripe, reconciliation)


def _compare(stripe: Stripe, tenant: Tenant) -> Reconciliation | None:
    """Compare relays and subscriptions, after completing interrupted creates.

    Returns None if the tenant needs no customer.
    """
    desired = desired_items(tenant.pk)
    current_id = _resolve_pending_creates(stripe, tenant, desired)
    if not tenant.stripe_customer_id and not desired:
        return None
    customer = ensure_customer(stripe, tenant)
    update_customer(stripe, tenant)
    with detect_deleted_customer(stripe, customer):
        subscriptions = stripe.subscriptions.list(customer=customer)
    discover_invoices(stripe, tenant, subscriptions)
    if ended := _find_ended(stripe, current_id, subscriptions):
        discover_invoices(stripe, tenant, [ended])
        _handle_missed_end(stripe, tenant.pk, customer, ended)
        current_id, desired = None, desired_items(tenant.pk)
    if refresh_payment_block(tenant_id=tenant.pk):
        desired = cap_to_current(
            desired, subscriptions, tenant_pubkey=tenant.pubkey, current_id=current_id
        )
    diff = diff_subscriptions(
        desired, subscriptions, tenant_pubkey=tenant.pubkey, current_id=current_id
    )
    return Reconciliation(tenant, customer, current_id, desired, diff)


def _resolve_pending_creates(
    stripe: Stripe, tenant: Tenant, desired: dict[str, int]
) -> str | None:
    """Look up the outcome of creates that an earlier sync left pending.

    Returns the id of the tenant's current subscription.
    """
    wanted = bool(desired)
    CreateCustomer(stripe, tenant).resolve_pending(wanted=wanted)
    created = None
    if customer := tenant.stripe_customer_id:
        creation = CreateSubscription(stripe, tenant, customer, desired)
        with detect_deleted_customer(stripe, customer):
            created = creation.resolve_pending(wanted=wanted)
    return created.id if created else tenant.stripe_subscription_id


def _find_ended(
    stripe: Stripe, current_id: str | None, subscriptions: list[Subscription]
) -> Subscription | None:
    """Return the current subscription if it no longer serves and bills."""
    if not current_id:
        return None
    listed = (sub for sub in subscriptions if sub.id == current_id)
    # Stripe lists ended subscriptions only on request.
    current = next(listed, None) or stripe.subscriptions.get(current_id)
    return current if is_inactive(current) else None


def _handle_missed_end(
    stripe: Stripe, tenant_id: str, customer: str, ended: Subscription
) -> None:
    """Handle an end that no webhook has reported yet."""
    if is_gone(stripe, customer):
        raise CustomerGone("The customer was deleted at Stripe.")
    handle_subscription_ended(tenant_id=tenant_id, subscription=ended)
    resume_cancellations(stripe, tenant_id)


def _apply(stripe: Stripe, reconciliation: Reconciliation) -> None:
    tenant, diff = reconciliation.tenant, reconciliation.diff
    current = diff.current
    if current and current.id != reconciliation.current_id:
        save_subscription_id(tenant_id=tenant.pk, subscription_id=current.id)
    if current and (diff.items or diff.needs_send_invoice):
        _update(stripe, tenant, current, diff)
    _cancel_duplicates(stripe, reconciliation)
    if reconciliation.desired and not current:
        _create(stripe, reconciliation)
    elif not reconciliation.desired and reconciliation.current_id:
        clear_subscription(tenant_id=tenant.pk)


def _cancel_duplicates(stripe: Stripe, reconciliation: Reconciliation) -> None:
    for subscription in reconciliation.diff.duplicates:
        is_current = subscription.id == reconciliation.current_id
        if reconciliation.desired or not is_current:
            logger.error("surplus_subscription", subscription=subscription.id)
        cancel(stripe, reconciliation.tenant.pk, subscription)


def _create(stripe: Stripe, reconciliation: Reconciliation) -> None:
    """Create the subscription, and correct it if an interrupted try created it."""
    tenant, customer = reconciliation.tenant, reconciliation.customer
    desired = reconciliation.desired
    # First, so that the credits pay the new subscription's first invoice.
    if not post_credits(tenant_id=tenant.pk, stripe=stripe):
        raise CreditPending("The tenant's credits must be posted first.")
    with detect_deleted_customer(stripe, customer):
        created = CreateSubscription(stripe, tenant, customer, desired).run()
    discover_invoices(stripe, tenant, [created])
    if is_inactive(created):
        # An earlier try created it, and it has ended since: the next sync starts over.
        handle_subscription_ended(tenant_id=tenant.pk, subscription=created)
        mark_stale(tenant_id=tenant.pk)
        return
    diff = diff_subscriptions(
        desired, [created], tenant_pubkey=tenant.pubkey, current_id=created.id
    )
    if not diff.is_in_sync:
        _update(stripe, tenant, created, diff)


def _update(
    stripe: Stripe, tenant: Tenant, current: Subscription, diff: SubscriptionDiff
) -> None:
    params: dict[str, Any] = {
        # For decreases too: with `none`, a relay that is switched off and on again
        # would be free (ADR 11).
        "proration_behavior": "create_prorations",
        "metadata": {"tenant_pubkey": tenant.pubkey},
    }
    if diff.items:
        params["items"] = list(diff.items)
    if diff.needs_send_invoice:
        _stop_automatic_collection(stripe, current)
        params |= send_invoice_params()
    stripe.subscriptions.update(current.id, params)


def _stop_automatic_collection(stripe: Stripe, subscription: Subscription) -> None:
    for invoice in stripe.invoices.list(subscription=subscription.id):
        if invoice.status in {"draft", "open"} and invoice.auto_advance:
            stripe.invoices.stop_auto_advance(invoice.id)
