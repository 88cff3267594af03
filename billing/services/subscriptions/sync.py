"""Makes each tenant's one Stripe subscription match its relays."""

from collections.abc import Container
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from billing.clients.stripe.client import Stripe, Subscription
from billing.exceptions import CreditPending, CustomerGone
from billing.models import StripeWrite, SubscriptionSync
from billing.services.credits.posting import post_credits
from billing.services.customers.catalog import refresh_prices
from billing.services.customers.customer import (
    CreateCustomer,
    clear_customer,
    detect_deleted_customer,
    ensure_customer,
    is_gone,
    update_customer,
)
from billing.services.dunning.payment_block import (
    paused_since,
    read_payment_block,
)
from billing.services.invoices.ownership import own_subscriptions
from billing.services.invoices.records import discover_invoices
from billing.services.subscriptions.cancel import cancel, resume_cancellations
from billing.services.subscriptions.create import (
    CreateSubscription,
    create_subscription,
    save_subscription_id,
)
from billing.services.subscriptions.diff import (
    PAUSED,
    SubscriptionDiff,
    cap_to_current,
    desired_items,
    diff_subscriptions,
    find_current,
    sellable_items,
)
from billing.services.subscriptions.end_credits import recredit_changed_ends
from billing.services.subscriptions.ended import (
    clear_subscription,
    handle_subscription_ended,
    is_inactive,
    record_unnoticed_ends,
)
from billing.services.subscriptions.pauses import are_recorded, record_pauses
from billing.services.subscriptions.refusals import (
    alert_if_stuck,
    require_all_billed,
)
from billing.services.subscriptions.terms import refresh_terms
from billing.services.subscriptions.update import SubscriptionUpdate
from billing.services.sync.queue import mark_stale
from caravel.core.alerts import alert_support
from caravel.core.db.leases import Lease
from caravel.core.exceptions import CaravelError, LeaseLost
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


class SyncOutcome(StrEnum):
    IN_SYNC = "in sync"
    STALE = "relays changed during the sync; enqueued again"
    NOT_DUE = "already in sync, held by another worker, or waiting after a failure"
    FAILED = "failed; the error is recorded and the sync will be retried"


@dataclass(frozen=True)
class Reconciliation:
    """A tenant's desired quantity per price, and its subscriptions at Stripe."""

    tenant: Tenant
    customer: str
    current_id: str | None
    desired: dict[str, int]
    subscriptions: list[Subscription]

    @property
    def diff(self) -> SubscriptionDiff:
        return diff_subscriptions(
            self.desired,
            self.subscriptions,
            tenant_pubkey=self.tenant.pubkey,
            current_id=self.current_id,
        )

    def without(self, refused: Container[str]) -> "Reconciliation":
        """Return it with no more of the refused prices than there is already."""
        desired = cap_to_current(
            self.desired,
            self.subscriptions,
            current_id=self.current_id,
            prices=refused,
        )
        return replace(self, desired=desired)


def sync_tenant(*, tenant_id: str) -> SyncOutcome:
    """Make Stripe match a tenant's relays, once for any number of concurrent calls.

    An expected failure is recorded on the tenant's sync and retried by the sweep;
    an unexpected one is recorded and raised.
    """
    lease = Lease.acquire(SubscriptionSync, tenant_id)
    if lease is None:
        return SyncOutcome.NOT_DUE
    with structlog.contextvars.bound_contextvars(tenant=tenant_id):
        return _sync_with(lease)


def _sync_with(lease: Lease) -> SyncOutcome:
    try:
        _reconcile(lease.pk, Stripe(before_try=lease.renew))
    except LeaseLost as exc:
        logger.warning("sync_lease_lost", error=exc.message)
        return SyncOutcome.NOT_DUE
    except CaravelError as exc:
        lease.release_failed(exc)
        logger.warning("sync_failed", code=exc.code, error=exc.message)
        alert_if_stuck(lease.pk, exc)
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
    if StripeWrite.objects.unresolved().filter(tenant=tenant).exists():
        resume_cancellations(stripe, tenant_id)
        recredit_changed_ends(stripe, tenant_id)
    reconciliation = _compare(stripe, tenant)
    refusals = _apply(stripe, reconciliation) if reconciliation else {}
    if refusals:
        # An archived price, whose webhook was lost?
        refresh_prices()
    items = reconciliation.desired if reconciliation else {}
    require_all_billed(tenant, items, refusals)


def _compare(stripe: Stripe, tenant: Tenant) -> Reconciliation | None:
    """Compare relays and subscriptions, after completing interrupted creates.

    Returns None if the tenant needs no customer. If a person has paused its
    subscription, nothing is changed until it is resumed, but no other one stays beside.
    """
    desired = desired_items(tenant.pk)
    current_id = _resolve_pending_creates(stripe, tenant, desired)
    if not tenant.stripe_customer_id and not desired:
        return None
    customer = ensure_customer(stripe, tenant)
    update_customer(stripe, tenant)
    with detect_deleted_customer(stripe, customer):
        listed = stripe.subscriptions.list(customer=customer)
    subscriptions = own_subscriptions(tenant, listed)
    discover_invoices(stripe, tenant, subscriptions)
    if current := find_current(subscriptions, current_id):
        refresh_terms(stripe, tenant.pk, current)
    if ended := _find_ended(stripe, current_id, subscriptions):
        discover_invoices(stripe, tenant, [ended])
        _handle_missed_end(stripe, tenant.pk, customer, ended)
        current_id, desired = None, desired_items(tenant.pk)
    if record_unnoticed_ends(stripe, tenant, subscriptions):
        resume_cancellations(stripe, tenant.pk)
    if paused := _find_paused(stripe, tenant, current_id, subscriptions):
        others = [each for each in subscriptions if each.id != paused.id]
        return Reconciliation(tenant, customer, None, {}, others)
    # A resumption has just switched relays on. If a pause after the list has switched
    # them off, the earlier answer stands: the subscription must not be cancelled.
    desired = desired_items(tenant.pk) or desired
    desired = sellable_items(desired, subscriptions, current_id)
    if read_payment_block(tenant_id=tenant.pk):
        desired = cap_to_current(desired, subscriptions, current_id=current_id)
    return Reconciliation(tenant, customer, current_id, desired, subscriptions)


def _resolve_pending_creates(
    stripe: Stripe, tenant: Tenant, desired: dict[str, int]
) -> str | None:
    """Look up the outcome of creates that an earlier sync left pending.

    Returns the id of the tenant's current subscription.
    """
    if not StripeWrite.objects.pending().filter(tenant=tenant).exists():
        return tenant.stripe_subscription_id
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


def _find_paused(
    stripe: Stripe,
    tenant: Tenant,
    current_id: str | None,
    subscriptions: list[Subscription],
) -> Subscription | None:
    """Record the pauses of the current subscription; return it if it is paused."""
    current = find_current(subscriptions, current_id)
    if current is None:
        return None
    if current.status != PAUSED and are_recorded(tenant.pk, current):
        return None
    if (current.status == PAUSED) != bool(paused_since(tenant)):
        # An event may have been processed since the list was read: it is not undone.
        current = stripe.subscriptions.get(current.id)
    is_paused = current.status == PAUSED
    if is_paused and current.id != current_id:
        save_subscription_id(tenant_id=tenant.pk, subscription_id=current.id)
    record_pauses(tenant_id=tenant.pk, subscription=current)
    return current if is_paused else None


def _handle_missed_end(
    stripe: Stripe, tenant_id: str, customer: str, ended: Subscription
) -> None:
    """Handle an end that no webhook has reported yet."""
    if is_gone(stripe, customer):
        raise CustomerGone("The customer was deleted at Stripe.")
    handle_subscription_ended(tenant_id=tenant_id, subscription=ended)
    resume_cancellations(stripe, tenant_id)


def _apply(stripe: Stripe, reconciliation: Reconciliation) -> dict[str, str]:
    """Apply what Stripe allows; returns its message per refused price."""
    tenant, current = reconciliation.tenant, reconciliation.diff.current
    refusals: dict[str, str] = {}
    if current and current.id != reconciliation.current_id:
        save_subscription_id(tenant_id=tenant.pk, subscription_id=current.id)
    if current:
        update = SubscriptionUpdate(stripe, tenant, current)
        refusals = update.run(reconciliation.desired)
        # Without any item that Stripe accepts, the subscription is cancelled.
        reconciliation = reconciliation.without(refusals)
    _cancel_duplicates(stripe, reconciliation)
    if reconciliation.desired and not current:
        return _create(stripe, reconciliation)
    if not reconciliation.desired and (current or reconciliation.current_id):
        clear_subscription(tenant_id=tenant.pk)
    return refusals


def _cancel_duplicates(stripe: Stripe, reconciliation: Reconciliation) -> None:
    for subscription in reconciliation.diff.duplicates:
        is_current = subscription.id == reconciliation.current_id
        if reconciliation.desired or not is_current:
            alert_support(
                "surplus_subscription",
                "A second subscription of a tenant is cancelled: it may have one.",
                tenant=reconciliation.tenant.pk,
                subscription=subscription.id,
            )
        cancel(stripe, reconciliation.tenant.pk, subscription)


def _create(stripe: Stripe, reconciliation: Reconciliation) -> dict[str, str]:
    """Create the subscription, and correct it if an interrupted try created it.

    Returns Stripe's message per refused price.
    """
    tenant, customer = reconciliation.tenant, reconciliation.customer
    desired = reconciliation.desired
    # First, so that the credits pay the new subscription's first invoice.
    if not post_credits(tenant_id=tenant.pk, stripe=stripe):
        raise CreditPending("The tenant's credits must be posted first.")
    with detect_deleted_customer(stripe, customer):
        created, refusals = create_subscription(stripe, tenant, customer, desired)
    if created is None:
        return refusals
    discover_invoices(stripe, tenant, [created])
    if is_inactive(created):
        # An earlier try created it, and it has ended since: the next sync starts over.
        handle_subscription_ended(tenant_id=tenant.pk, subscription=created)
        mark_stale(tenant_id=tenant.pk)
        return {}
    # Its first invoice may have used a discount up: not to be carried over again.
    refresh_terms(stripe, tenant.pk, created)
    return SubscriptionUpdate(stripe, tenant, created).run(desired)
