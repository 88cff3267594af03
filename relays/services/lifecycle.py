"""Lifecycle of relays. Each service changes one relay and logs it, or raises."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from caravel.core.exceptions import CaravelError, UnknownField
from caravel.core.validation import invalid_field, reject_coercible, validate_fields
from relays import exceptions
from relays.models import Plan, Relay
from relays.services.activities import record_relay_activity
from relays.services.quotas import require_quota
from tenants.exceptions import TenantClosed, UnknownTenant
from tenants.models import Activity, Tenant

Status = Relay.Status

#: Fields that a tenant can set, besides the plan.
EDITABLE = (
    "subdomain",
    "name",
    "icon",
    "description",
    "public_join",
    "strip_signatures",
    "groups_enabled",
    "management_enabled",
    "push_enabled",
    "blossom_enabled",
    "livekit_enabled",
)
#: Switches that not every plan includes: the relay's field and the plan's.
FEATURES = {"blossom_enabled": "blossom", "livekit_enabled": "livekit"}


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
    FreeRelayQuota, UnpaidRelayQuota, UnknownPlan, InvalidSubdomain, ReservedSubdomain,
    SubdomainTaken, PlanLacksFeature, UnknownField, or Invalid for another field. Staff
    ignore quotas.
    """
    with _unique_subdomain():
        tenant, plan = _lock_tenant(tenant_id), _get_plan(plan_id)
        _require_open_account(tenant)
        _require_no_block(tenant, plan)
        _require_billable(tenant, plan)
        if not ignore_quotas:
            require_quota(tenant, plan)
        relay = Relay(tenant=tenant, plan=plan)
        _set_fields(relay, {"subdomain": subdomain, **fields})
        _validate(relay, fields)
        relay.save(force_insert=True)
        record_relay_activity(relay, Activity.Type.CREATE_RELAY)
    return relay


def update_relay(*, relay_id: UUID, **fields: Any) -> Relay:
    """Set fields; raises the same errors as `create_relay`."""
    with _unique_subdomain():
        relay = _lock(relay_id)
        _set_fields(relay, fields)
        _validate(relay, fields)
        _save(relay, Activity.Type.UPDATE_RELAY, *fields)
    return relay


def change_plan(*, relay_id: UUID, plan_id: str, ignore_quotas: bool = False) -> Relay:
    """Move the relay to another plan, and turn off features that it does not include.

    A delinquent relay can only move to a free plan, which makes it active. Raises
    UnknownPlan, UnknownRelay, RelayIsDelinquent, PriceMissing, FreeRelayQuota for a
    free plan, or PaymentOverdue, BillingOnHold or UnpaidRelayQuota for a more expensive
    one.
    """
    with transaction.atomic():
        relay, plan = _lock(relay_id), _get_plan(plan_id)
        if relay.plan_id == plan.pk:
            return relay
        if relay.status == Status.DELINQUENT:
            if plan.is_paid:
                raise _delinquent(relay)
            relay.status = Status.ACTIVE
        # A cheaper paid plan is always allowed: the tenant will only owe less.
        is_upgrade = plan.amount_cents > relay.plan.amount_cents
        if is_upgrade:
            _require_no_block(relay.tenant, plan)
        _require_billable(relay.tenant, plan, changed=relay)
        if not ignore_quotas and (is_upgrade or not plan.is_paid):
            require_quota(relay.tenant, plan, changed=relay)
        relay.plan = plan
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
        relay = _lock(relay_id)
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
        relay = _lock(relay_id)
        if relay.status == Status.DELINQUENT:
            raise _delinquent(relay)
        if relay.status == Status.ACTIVE:
            raise exceptions.RelayIsActive("This relay is active.")
        _require_open_account(relay.tenant)
        # Otherwise deactivating and activating a delinquent relay would avoid payment.
        _require_no_block(relay.tenant, relay.plan)
        _require_billable(relay.tenant, relay.plan, changed=relay)
        relay.status = Status.ACTIVE
        _save(relay, Activity.Type.ACTIVATE_RELAY, "status")
    return relay


def deactivate_relay(*, relay_id: UUID) -> Relay:
    """Deactivate a relay for its tenant or support. Raises RelayIsInactive."""
    with transaction.atomic():
        relay = _lock(relay_id)
        if relay.status == Status.INACTIVE:
            raise exceptions.RelayIsInactive("This relay is inactive.")
        relay.status = Status.INACTIVE
        _save(relay, Activity.Type.DEACTIVATE_RELAY, "status")
    return relay


def delete_relay(*, relay_id: UUID) -> Relay:
    """Switch a relay off for good and free its name. Raises UnknownRelay."""
    with transaction.atomic():
        relay = _lock(relay_id)
        relay.status, relay.deleted_at = Status.INACTIVE, timezone.now()
        _save(relay, Activity.Type.DELETE_RELAY, "status", "deleted_at")
    return relay


def mark_relay_delinquent(*, relay_id: UUID) -> Relay:
    """Switch an active relay on a paid plan off, for a debt or a pause.

    Raises RelayIsInactive, RelayIsDelinquent or RelayIsFree.
    """
    with transaction.atomic():
        relay = _lock(relay_id)
        _require_suspendable(relay)
        relay.status = Status.DELINQUENT
        _save(relay, Activity.Type.MARK_RELAY_DELINQUENT, "status")
    return relay


def reactivate_relay(*, relay_id: UUID) -> Relay:
    """Activate a delinquent relay: nothing is owed or paused any more.

    Raises RelayIsActive or RelayIsInactive.
    """
    with transaction.atomic():
        relay = _lock(relay_id)
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


def _lock_tenant(tenant_id: str) -> Tenant:
    # Lock order: the tenant before its relays, so that two changes cannot deadlock.
    try:
        return Tenant.objects.lock(tenant_id)
    except Tenant.DoesNotExist as exc:
        raise UnknownTenant("There is no such tenant.") from exc


def _lock(relay_id: UUID) -> Relay:
    tenant_id = (
        Relay.objects.filter(pk=relay_id).values_list("tenant", flat=True).first()
    )
    if tenant_id is None:
        raise exceptions.UnknownRelay("There is no such relay.")
    tenant = _lock_tenant(tenant_id)
    relays = Relay.objects.select_related("plan").select_for_update(of=("self",))
    relay = relays.existing().filter(pk=relay_id).first()
    # Deleted, perhaps by a transaction that held the tenant until now.
    if relay is None:
        raise exceptions.UnknownRelay("There is no such relay.")
    # The locked instance, whose overdue and closed dates are up to date.
    relay.tenant = tenant
    return relay


def _get_plan(plan_id: str) -> Plan:
    # Not a query by id: untrusted input such as NUL would be an error in the database.
    plan = next((plan for plan in Plan.objects.all() if plan.pk == plan_id), None)
    if plan is None:
        raise exceptions.UnknownPlan("There is no such plan.")
    return plan


def _set_fields(relay: Relay, fields: dict[str, Any]) -> None:
    if unknown := fields.keys() - set(EDITABLE):
        names = ", ".join(sorted(unknown))
        raise UnknownField(f"A relay has no field {names} to set.")
    for name, value in fields.items():
        setattr(relay, name, value)


def _require_open_account(tenant: Tenant) -> None:
    if tenant.closed_at:
        raise TenantClosed("This account is closed.")


def _require_no_block(tenant: Tenant, plan: Plan) -> None:
    if plan.is_paid and tenant.must_pay_first:
        raise exceptions.PaymentOverdue(
            "Pay the open invoice first.", tenant_id=tenant.pk
        )
    if plan.is_paid and tenant.billing_on_hold_since:
        raise _on_hold()


def _delinquent(relay: Relay) -> CaravelError:
    """Return the error for a relay that billing has switched off."""
    tenant = relay.tenant
    if tenant.billing_on_hold_since and not tenant.must_pay_first:
        return _on_hold()
    return exceptions.RelayIsDelinquent(
        "Pay the open invoices first.", tenant_id=tenant.pk
    )


def _on_hold() -> exceptions.BillingOnHold:
    return exceptions.BillingOnHold(
        "Billing of this account is on hold. Please contact support."
    )


def _require_billable(
    tenant: Tenant, plan: Plan, *, changed: Relay | None = None
) -> None:
    """Raise PriceMissing if a relay on the plan would run without being billed.

    One subscription has one currency: that of the tenant's relays other than `changed`.
    """
    if not plan.is_sellable:
        raise exceptions.PriceMissing("This plan cannot be bought at present.")
    others = Relay.objects.paid().filter(tenant=tenant).exclude(status=Status.INACTIVE)
    if changed:
        others = others.exclude(pk=changed.pk)
    if plan.is_paid and others.exclude(plan__currency=plan.currency).exists():
        raise exceptions.PriceMissing(
            "This plan has another currency than the tenant's other relays."
        )


def _require_suspendable(relay: Relay) -> None:
    if relay.status == Status.INACTIVE:
        raise exceptions.RelayIsInactive("This relay is inactive.")
    if relay.status == Status.DELINQUENT:
        raise exceptions.RelayIsDelinquent(
            "This relay is delinquent.", tenant_id=relay.tenant_id
        )
    if not relay.plan.is_paid:
        raise exceptions.RelayIsFree("A free relay cannot be delinquent.")


_SUBDOMAIN_ERRORS: dict[str, type[CaravelError]] = {
    "subdomain-invalid": exceptions.InvalidSubdomain,
    "subdomain-reserved": exceptions.ReservedSubdomain,
    "subdomain-exists": exceptions.SubdomainTaken,
}


def _validate(relay: Relay, fields: Iterable[str]) -> None:
    for switch, feature in FEATURES.items():
        if getattr(relay, switch) and not getattr(relay.plan, feature):
            message = f"The plan {relay.plan} does not include {feature}."
            raise exceptions.PlanLacksFeature(message)
    # The subdomain separately, since its errors have classes and codes of their own.
    validate_fields(relay, {*fields} - {"subdomain"})
    reject_coercible(relay, "subdomain")
    try:
        relay.clean_fields(exclude=set(EDITABLE) - {"subdomain"} | {"tenant", "plan"})
        relay.validate_constraints()
    except ValidationError as exc:
        raise _to_domain_error(exc) from exc


def _to_domain_error(error: ValidationError) -> CaravelError:
    first = next(iter(error.error_dict.values()))[0]
    error_class = _SUBDOMAIN_ERRORS.get(str(first.code))
    return error_class(first.messages[0]) if error_class else invalid_field(error)


def _save(relay: Relay, type: Activity.Type, *fields: str) -> None:
    relay.synced = False
    relay.save(update_fields=[*fields, "synced"])
    record_relay_activity(relay, type)
