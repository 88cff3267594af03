"""Keeping each tenant's one Stripe subscription in step with its relays."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import structlog
from django.conf import settings

from billing.clients.stripe.client import Stripe, Subscription
from billing.exceptions import (
    CreditPending,
    CustomerGone,
    LeaseLost,
    StripeRefused,
)
from billing.models import StripeWrite
from billing.services.credits.posting import post_credits
from billing.services.customers.customer import (
    clear_customer,
    customer_of,
    ensure_customer,
    is_gone,
    resolve_pending_create,
)
from billing.services.dunning.payment_block import refresh_payment_block
from billing.services.invoices.records import discover_invoices
from billing.services.stripe_writes import writes
from billing.services.subscriptions.cancel import cancel, resume_cancellations
from billing.services.subscriptions.diff import (
    SubscriptionDiff,
    cap_to_current,
    desired_items,
    diff_subscriptions,
)
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

_CREATE = StripeWrite.Kind.CREATE_SUBSCRIPTION


class SyncOutcome(StrEnum):
    IN_STEP = "in step"
    STALE = "changed under way; enqueued again"
    NOT_DUE = "in step, or another worker's, or waiting after a failure"
    FAILED = "failed; recorded, tried again later"


def sync_tenant(*, tenant_id: str) -> SyncOutcome:
    """Make Stripe match a tenant's relays. Any number of calls at once do it once.

    An expected failure is recorded on the tenant's sync and retried by the sweep;
    an unexpected one is recorded and raised.
    """
    lease = Lease.acquire(tenant_id)
    if lease is None:
        return SyncOutcome.NOT_DUE
    with structlog.contextvars.bound_contextvars(tenant=tenant_id):
        return _sync_under(lease)


def _sync_under(lease: Lease) -> SyncOutcome:
    try:
        _converge(lease.tenant_id, Stripe(before_try=lease.ensure))
    except LeaseLost as exc:
        logger.warning("sync_lease_lost", error=exc.message)
        return SyncOutcome.NOT_DUE
    except CaravelError as exc:
        lease.fail(exc)
        logger.warning("sync_failed", code=exc.code, error=exc.message)
        return SyncOutcome.FAILED
    except Exception as exc:
        lease.fail(exc)
        raise
    return SyncOutcome.IN_STEP if lease.finish() else SyncOutcome.STALE


def _converge(tenant_id: str, stripe: Stripe) -> None:
    try:
        _converge_once(tenant_id, stripe)
    except CustomerGone:
        clear_customer(Tenant.objects.get(pk=tenant_id))
        _converge_once(tenant_id, stripe)


def _converge_once(tenant_id: str, stripe: Stripe) -> None:
    tenant = Tenant.objects.get(pk=tenant_id)
    resume_cancellations(stripe, tenant_id)
    desired = desired_items(tenant_id)
    _resolve_pending_creates(stripe, tenant, desired)
    if not tenant.stripe_customer_id and not desired:
        return
    customer = ensure_customer(stripe, tenant)
    with _detect_deleted_customer(stripe, customer):
        subscriptions = stripe.list_subscriptions(customer=customer)
    discover_invoices(stripe, tenant, subscriptions)
    if _handle_missed_end(stripe, tenant, subscriptions):
        desired = desired_items(tenant_id)
    whose: Any = {
        "tenant_pubkey": tenant.pubkey,
        "current_id": tenant.stripe_subscription_id,
    }
    if refresh_payment_block(tenant_id=tenant_id):
        desired = cap_to_current(desired, subscriptions, **whose)
    difference = diff_subscriptions(desired, subscriptions, **whose)
    _apply(stripe, tenant, desired, difference)


def _resolve_pending_creates(
    stripe: Stripe, tenant: Tenant, desired: dict[str, int]
) -> None:
    """Find out what came of what an earlier sync did not see the end of."""
    wanted = bool(desired)
    resolve_pending_create(stripe, tenant, wanted=wanted)
    if tenant.stripe_customer_id:
        with _detect_deleted_customer(stripe, tenant.stripe_customer_id):
            writes.resolve_pending(
                kind=_CREATE,
                subject=tenant.pk,
                wanted=wanted,
                find=lambda intent: _find(stripe, intent),
                store=lambda found: _remember(tenant, found.id),
            )


def _handle_missed_end(
    stripe: Stripe, tenant: Tenant, subscriptions: list[Subscription]
) -> bool:
    """Act on the end of the current subscription where no webhook told of it."""
    current = tenant.stripe_subscription_id
    if not current:
        return False
    listed = (sub for sub in subscriptions if sub.id == current)
    found = next(listed, None) or stripe.get_subscription(current)
    if not is_inactive(found):
        return False
    if is_gone(stripe, customer_of(tenant)):
        raise CustomerGone("The customer was deleted at Stripe.")
    handle_subscription_ended(tenant_id=tenant.pk, subscription_id=current, found=found)
    tenant.stripe_subscription_id = None
    resume_cancellations(stripe, tenant.pk)
    return True


def _apply(
    stripe: Stripe,
    tenant: Tenant,
    desired: dict[str, int],
    difference: SubscriptionDiff,
) -> None:
    keep = difference.keep
    if keep:
        _remember(tenant, keep.id)
        if difference.items or difference.switch:
            _update(stripe, tenant, keep, difference)
    _cancel_surplus(stripe, tenant, difference.surplus, expected=not desired)
    if desired and not keep:
        _create_and_converge(stripe, tenant, desired)
    elif not desired and tenant.stripe_subscription_id:
        clear_subscription(tenant_id=tenant.pk)
        tenant.stripe_subscription_id = None


def _cancel_surplus(
    stripe: Stripe,
    tenant: Tenant,
    surplus: tuple[Subscription, ...],
    *,
    expected: bool,
) -> None:
    for subscription in surplus:
        if not (expected and subscription.id == tenant.stripe_subscription_id):
            logger.error("surplus_subscription", subscription=subscription.id)
        cancel(stripe, tenant.pk, subscription)


def _create_and_converge(
    stripe: Stripe, tenant: Tenant, desired: dict[str, int]
) -> None:
    if not post_credits(tenant_id=tenant.pk, stripe=stripe):
        raise CreditPending("What the tenant is owed is to be posted first.")
    created = _create(stripe, tenant, desired)
    discover_invoices(stripe, tenant, [created])
    if is_inactive(created):
        # Created by an earlier try, and ended since: the next sync starts afresh.
        handle_subscription_ended(
            tenant_id=tenant.pk, subscription_id=created.id, found=created
        )
        mark_stale(tenant_id=tenant.pk)
        return
    difference = diff_subscriptions(
        desired, [created], tenant_pubkey=tenant.pubkey, current_id=created.id
    )
    if not difference.is_in_sync:
        _update(stripe, tenant, created, difference)


def _create(stripe: Stripe, tenant: Tenant, desired: dict[str, int]) -> Subscription:
    """Create the subscription, or adopt the one that an earlier try created."""
    customer = customer_of(tenant)
    with _detect_deleted_customer(stripe, customer):
        return writes.fulfil(
            kind=_CREATE,
            subject=tenant.pk,
            tenant_id=tenant.pk,
            params=lambda key: _params(tenant, customer, desired, key),
            send=stripe.create_subscription,
            find=lambda intent: _find(stripe, intent),
            store=lambda made: _remember(tenant, made.id),
        )


@contextmanager
def _detect_deleted_customer(stripe: Stripe, customer: str) -> Iterator[None]:
    """Turn a refusal that is about the customer into CustomerGone, if it is gone."""
    try:
        yield
    except StripeRefused as exc:
        if exc.param == "customer" and is_gone(stripe, customer):
            raise CustomerGone("The customer was deleted at Stripe.") from exc
        raise


def _params(
    tenant: Tenant, customer: str, desired: dict[str, int], key: str
) -> dict[str, Any]:
    return {
        "customer": customer,
        "items": [{"price": price, "quantity": n} for price, n in desired.items()],
        "metadata": {"tenant_pubkey": tenant.pubkey, "caravel_intent": key},
        "billing_mode": {"type": "flexible"},
        "proration_behavior": "create_prorations",
        **_collection(),
    }


def _collection() -> dict[str, Any]:
    """Stripe only makes the invoices: we start every charge."""
    return {
        "collection_method": "send_invoice",
        "days_until_due": settings.BILLING_GRACE_DAYS,
    }


def _find(stripe: Stripe, intent: StripeWrite) -> Subscription | None:
    key = intent.idempotency_key
    listed = stripe.list_subscriptions(customer=intent.params["customer"], ended=True)
    return next(
        (sub for sub in listed if sub.metadata.get("caravel_intent") == key), None
    )


def _update(
    stripe: Stripe, tenant: Tenant, keep: Subscription, difference: SubscriptionDiff
) -> None:
    params: dict[str, Any] = {
        "proration_behavior": "create_prorations",
        "metadata": {"tenant_pubkey": tenant.pubkey},
    }
    if difference.items:
        params["items"] = list(difference.items)
    if difference.switch:
        _stop_automatic_collection(stripe, keep)
        params |= _collection()
    stripe.update_subscription(keep.id, params)


def _stop_automatic_collection(stripe: Stripe, subscription: Subscription) -> None:
    for invoice in stripe.list_invoices(subscription=subscription.id):
        if invoice.status in {"draft", "open"} and invoice.auto_advance:
            stripe.stop_auto_advance(invoice.id)


def _remember(tenant: Tenant, subscription_id: str) -> None:
    if tenant.stripe_subscription_id != subscription_id:
        mine = Tenant.objects.filter(pk=tenant.pk)
        mine.update(stripe_subscription_id=subscription_id)
        tenant.stripe_subscription_id = subscription_id
        # Whether what is unpaid is a debt depends on there being a subscription.
        refresh_payment_block(tenant_id=tenant.pk)
