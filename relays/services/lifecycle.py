"""Lifecycle of relays. Each service changes one relay and logs it, or raises."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from relays import exceptions
from relays.models import Relay
from relays.services import over_limit
from relays.services.activities import record_relay_activity
from relays.services.end_of_life import schedule
from relays.services.fields import FEATURES, set_fields, validate
from relays.services.locks import lock_relay, lock_tenant
from relays.services.members import require_fit
from relays.services.plans import get_plan
from relays.services.quotas import require_quota
from relays.services.requirements import (
    delinquent_error,
    require_billable,
    require_no_block,
    require_open_account,
    require_suspendable,
)
from tenants.models import Activity

Status = Relay.Status


def create_relay(
    *,
    tenant_id: str,
    subdomain: str,
    plan_id: str,
    ignore_quotas: bool = False,
    **fields: Any,
) -> Relay:
    """Create an active relay.

    Raises UnknownTenant, TenantClosed, PaymentOverdue, BillingOnHold, PriceMissing,
    FreeRelayQuota, UnpaidRelayQuota, NewRelayQuota, UnknownPlan, InvalidSubdomain,
    ReservedSubdomain, SubdomainTaken, PlanLacksFeature, FeatureUnavailable,
    InvalidRole, UnknownField, or Invalid for another field. Staff ignore quotas.
    """
    with _unique_subdomain():
        tenant, plan = lock_tenant(tenant_id), get_plan(plan_id)
        require_open_account(tenant)
        require_no_block(tenant, plan)
        require_billable(tenant, plan)
        if not ignore_quotas:
            require_quota(tenant, plan)
        relay = Relay(tenant=tenant, plan=plan)
        set_fields(relay, {"subdomain": subdomain, **fields})
        validate(relay, fields)
        relay.save(force_insert=True)
        record_relay_activity(relay, Activity.Type.CREATE_RELAY)
    return relay


def update_relay(*, relay_id: UUID, **fields: Any) -> Relay:
    """Set fields; raises the same errors as `create_relay`."""
    with _unique_subdomain():
        relay = lock_relay(relay_id)
        set_fields(relay, fields)
        validate(relay, fields)
        _save(relay, Activity.Type.UPDATE_RELAY, *fields)
    return relay


def change_plan(*, relay_id: UUID, plan_id: str, ignore_quotas: bool = False) -> Relay:
    """Move the relay to another plan, and turn off features that it does not include.

    Call `count_for_plan` before. A delinquent relay can only move to a free plan, which
    makes it active. Raises UnknownPlan, UnknownRelay, RelayIsDelinquent, PriceMissing,
    FreeRelayQuota for a free plan, PaymentOverdue, BillingOnHold or UnpaidRelayQuota
    for a more expensive one, or MembersExceedPlan or MembersNotCounted for a smaller
    one.
    """
    with transaction.atomic():
        relay, plan = lock_relay(relay_id), get_plan(plan_id)
        if relay.plan_id == plan.pk:
            return relay
        if relay.status == Status.DELINQUENT:
            if plan.is_paid:
                raise delinquent_error(relay)
            relay.status = Status.ACTIVE
        # A cheaper paid plan is always allowed: the tenant will only owe less.
        is_upgrade = plan.amount_cents > relay.plan.amount_cents
        if is_upgrade:
            require_no_block(relay.tenant, plan)
        require_billable(relay.tenant, plan, changed=relay)
        if not ignore_quotas and (is_upgrade or not plan.is_paid):
            require_quota(relay.tenant, plan, changed=relay)
        require_fit(relay, plan)
        relay.plan = plan
        over_limit.end_if_it_fits(relay)
        for switch, feature in FEATURES.items():
            setattr(relay, switch, getattr(relay, switch) and getattr(plan, feature))
        _save(relay, Activity.Type.CHANGE_RELAY_PLAN, "plan", "status", *FEATURES)
    return relay


def update_relay_and_plan(
    *, relay_id: UUID, plan_id: str | None = None, **fields: Any
) -> Relay:
    """Change the plan and set fields in one transaction.

    Raises the same errors as `change_plan` and `update_relay`.
    """
    with transaction.atomic():
        relay = lock_relay(relay_id)
        # The plan first, so that features of the new plan can be switched on.
        if plan_id is not None:
            relay = change_plan(relay_id=relay_id, plan_id=plan_id)
        return update_relay(relay_id=relay_id, **fields) if fields else relay


def activate_relay(*, relay_id: UUID) -> Relay:
    """Activate an inactive relay.

    Raises RelayIsActive, RelayIsDelinquent, TenantClosed, PaymentOverdue,
    BillingOnHold or PriceMissing.
    """
    with transaction.atomic():
        relay = lock_relay(relay_id)
        if relay.status == Status.DELINQUENT:
            raise delinquent_error(relay)
        if relay.status == Status.ACTIVE:
            raise exceptions.RelayIsActive("This relay is active.")
        require_open_account(relay.tenant)
        # Otherwise deactivating and activating a delinquent relay would avoid payment.
        require_no_block(relay.tenant, relay.plan)
        require_billable(relay.tenant, relay.plan, changed=relay)
        relay.status = Status.ACTIVE
        _save(relay, Activity.Type.ACTIVATE_RELAY, "status")
    return relay


def deactivate_relay(*, relay_id: UUID) -> Relay:
    """Deactivate a relay for its tenant or support. Raises RelayIsInactive."""
    with transaction.atomic():
        relay = lock_relay(relay_id)
        if relay.status == Status.INACTIVE:
            raise exceptions.RelayIsInactive("This relay is inactive.")
        relay.status = Status.INACTIVE
        _save(relay, Activity.Type.DEACTIVATE_RELAY, "status")
    return relay


def delete_relay(*, relay_id: UUID) -> Relay:
    """Switch a relay off for good and free its name. Raises UnknownRelay."""
    with transaction.atomic():
        relay = lock_relay(relay_id)
        relay.status, relay.deleted_at = Status.INACTIVE, timezone.now()
        over_limit.end_episode(relay)
        _save(relay, Activity.Type.DELETE_RELAY, "status", "deleted_at")
    return relay


def mark_relay_delinquent(*, relay_id: UUID) -> Relay:
    """Switch an active relay on a paid plan off, for a debt or a pause.

    Raises RelayIsInactive, RelayIsDelinquent or RelayIsFree.
    """
    with transaction.atomic():
        relay = lock_relay(relay_id)
        require_suspendable(relay)
        relay.status = Status.DELINQUENT
        _save(relay, Activity.Type.MARK_RELAY_DELINQUENT, "status")
    return relay


def reactivate_relay(*, relay_id: UUID) -> Relay:
    """Activate a delinquent relay: nothing is owed or paused any more.

    Raises RelayIsActive or RelayIsInactive.
    """
    with transaction.atomic():
        relay = lock_relay(relay_id)
        if relay.status == Status.ACTIVE:
            raise exceptions.RelayIsActive("This relay is active.")
        # Billing activates only relays that it has suspended itself.
        if relay.status == Status.INACTIVE:
            raise exceptions.RelayIsInactive("This relay was switched off manually.")
        relay.status = Status.ACTIVE
        _save(relay, Activity.Type.REACTIVATE_RELAY, "status")
    return relay


@contextmanager
def _unique_subdomain() -> Iterator[None]:
    """Run a transaction; raises SubdomainTaken if the unique constraint is violated."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as exc:
        # Taken by a concurrent transaction after `_validate` had checked it.
        if "relay_subdomain_unique" not in str(exc):
            raise
        raise exceptions.SubdomainTaken("This subdomain is taken.") from exc


def _save(relay: Relay, type: Activity.Type, *fields: str) -> None:
    relay.synced = False
    schedule.follow_status(relay)
    relay.save(update_fields=[*fields, "synced", *schedule.FIELDS])
    record_relay_activity(relay, type)
