"""The life of a relay. Each service changes one relay and logs it, or refuses."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from caravel.core.exceptions import CaravelError, UnknownField
from caravel.core.validation import invalid_field, reject_coercible, validate_fields
from relays import exceptions
from relays.models import Plan, Relay
from tenants.models import Activity, Tenant
from tenants.services.activities import record_activity

Status = Relay.Status

#: What a tenant may set on its relay besides the plan.
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
#: Switches that only some plans carry: the relay's field and the plan's.
FEATURES = {"blossom_enabled": "blossom", "livekit_enabled": "livekit"}


def create_relay(
    *, tenant_id: str, subdomain: str, plan_id: str, **fields: Any
) -> Relay:
    """Create an active relay.

    Raises UnknownTenant, TenantClosed, PaymentOverdue, UnknownPlan, InvalidSubdomain,
    ReservedSubdomain, SubdomainTaken, PlanLacksFeature, UnknownField, or Invalid for
    another field.
    """
    with _naming():
        tenant, plan = _lock_tenant(tenant_id), _plan(plan_id)
        _require_sellable(tenant, plan)
        relay = Relay(tenant=tenant, plan=plan)
        _set_fields(relay, {"subdomain": subdomain, **fields})
        _validate(relay, fields)
        relay.save(force_insert=True)
        _record(relay, Activity.Type.CREATE_RELAY)
    return relay


def update_relay(*, relay_id: UUID, **fields: Any) -> Relay:
    """Change names, texts and switches; raises what `create_relay` does."""
    with _naming():
        relay = _lock(relay_id)
        _set_fields(relay, fields)
        _validate(relay, fields)
        relay.synced = False
        relay.save(update_fields=[*fields, "synced"])
        _record(relay, Activity.Type.UPDATE_RELAY)
    return relay


def change_plan(*, relay_id: UUID, plan_id: str) -> Relay:
    """Move the relay to another plan; switches that it does not carry go off.

    A delinquent relay may only become free, which makes it active. Raises UnknownPlan,
    UnknownRelay, RelayIsDelinquent, or PaymentOverdue for a dearer plan. The same plan
    again changes nothing.
    """
    with transaction.atomic():
        relay, plan = _lock(relay_id), _plan(plan_id)
        if relay.plan_id == plan.pk:
            return relay
        if relay.status == Status.DELINQUENT:
            if plan.is_paid:
                raise exceptions.RelayIsDelinquent(
                    "Pay the open invoices first.", tenant_id=relay.tenant_id
                )
            relay.status = Status.ACTIVE
        if plan.amount_cents > relay.plan.amount_cents:
            _require_solvent(relay.tenant, plan)
        relay.plan = plan
        for switch, feature in FEATURES.items():
            setattr(relay, switch, getattr(relay, switch) and getattr(plan, feature))
        _save(relay, Activity.Type.CHANGE_RELAY_PLAN, "plan", "status", *FEATURES)
    return relay


def update_relay_and_plan(
    *, relay_id: UUID, plan_id: str | None = None, **fields: Any
) -> Relay:
    """Change plan and fields together, or neither; raises what these two do.

    The plan comes first: what only the new one carries may be switched on at once.
    """
    with transaction.atomic():
        relay = _lock(relay_id)
        if plan_id is not None:
            relay = change_plan(relay_id=relay_id, plan_id=plan_id)
        return update_relay(relay_id=relay_id, **fields) if fields else relay


def activate_relay(*, relay_id: UUID) -> Relay:
    """Switch an inactive relay on.

    Raises RelayIsActive, RelayIsDelinquent, TenantClosed or PaymentOverdue.
    """
    with transaction.atomic():
        relay = _lock(relay_id)
        if relay.status == Status.DELINQUENT:
            raise exceptions.RelayIsDelinquent(
                "Pay the open invoices first.", tenant_id=relay.tenant_id
            )
        if relay.status == Status.ACTIVE:
            raise exceptions.RelayIsActive("This relay is active.")
        _require_sellable(relay.tenant, relay.plan)
        relay.status = Status.ACTIVE
        _save(relay, Activity.Type.ACTIVATE_RELAY, "status")
    return relay


def deactivate_relay(*, relay_id: UUID) -> Relay:
    """Switch a relay off on a person's wish. Raises RelayIsInactive."""
    with transaction.atomic():
        relay = _lock(relay_id)
        if relay.status == Status.INACTIVE:
            raise exceptions.RelayIsInactive("This relay is inactive.")
        relay.status = Status.INACTIVE
        _save(relay, Activity.Type.DEACTIVATE_RELAY, "status")
    return relay


def mark_relay_delinquent(*, relay_id: UUID) -> Relay:
    """Switch an active, paid relay off for non-payment.

    Raises RelayIsInactive, RelayIsDelinquent or RelayIsFree.
    """
    with transaction.atomic():
        relay = _lock(relay_id)
        _require_suspendable(relay)
        relay.status = Status.DELINQUENT
        _save(relay, Activity.Type.MARK_RELAY_DELINQUENT, "status")
    return relay


def reactivate_relay(*, relay_id: UUID) -> Relay:
    """Switch a delinquent relay on again, once paid.

    Raises RelayIsActive or RelayIsInactive: billing switches on only what it
    switched off.
    """
    with transaction.atomic():
        relay = _lock(relay_id)
        if relay.status == Status.ACTIVE:
            raise exceptions.RelayIsActive("This relay is active.")
        if relay.status == Status.INACTIVE:
            raise exceptions.RelayIsInactive("A person switched this relay off.")
        relay.status = Status.ACTIVE
        _save(relay, Activity.Type.REACTIVATE_RELAY, "status")
    return relay


@contextmanager
def _naming() -> Iterator[None]:
    """A transaction in which a subdomain may turn out to be taken a moment ago."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as exc:
        if "relay_subdomain_unique" not in str(exc):
            raise
        raise exceptions.SubdomainTaken("This subdomain is taken.") from exc


def _lock_tenant(tenant_id: str) -> Tenant:
    # The parent first, always: changes to one tenant's relays never deadlock.
    try:
        return Tenant.objects.lock(tenant_id)
    except Tenant.DoesNotExist as exc:
        raise exceptions.UnknownTenant("There is no such tenant.") from exc


def _lock(relay_id: UUID) -> Relay:
    tenant_id = (
        Relay.objects.filter(pk=relay_id).values_list("tenant", flat=True).first()
    )
    if tenant_id is None:
        raise exceptions.UnknownRelay("There is no such relay.")
    tenant = _lock_tenant(tenant_id)
    relays = Relay.objects.select_related("plan").select_for_update(of=("self",))
    relay = relays.get(pk=relay_id)
    relay.tenant = tenant
    return relay


def _plan(plan_id: str) -> Plan:
    # Compared here: what is no plan's id may be nothing that the database can take.
    plan = next((each for each in Plan.objects.all() if each.pk == plan_id), None)
    if plan is None:
        raise exceptions.UnknownPlan("There is no such plan.")
    return plan


def _set_fields(relay: Relay, fields: dict[str, Any]) -> None:
    if unknown := fields.keys() - set(EDITABLE):
        names = ", ".join(sorted(unknown))
        raise UnknownField(f"A relay has no field {names} to set.")
    for name, value in fields.items():
        setattr(relay, name, value)


def _require_sellable(tenant: Tenant, plan: Plan) -> None:
    if tenant.closed_at:
        raise exceptions.TenantClosed("This account is closed.")
    _require_solvent(tenant, plan)


def _require_solvent(tenant: Tenant, plan: Plan) -> None:
    if plan.is_paid and tenant.must_pay_first:
        raise exceptions.PaymentOverdue(
            "Pay the open invoice first.", tenant_id=tenant.pk
        )


def _require_suspendable(relay: Relay) -> None:
    if relay.status == Status.INACTIVE:
        raise exceptions.RelayIsInactive("This relay is inactive.")
    if relay.status == Status.DELINQUENT:
        raise exceptions.RelayIsDelinquent(
            "This relay is delinquent.", tenant_id=relay.tenant_id
        )
    if not relay.plan.is_paid:
        raise exceptions.RelayIsFree("A free relay owes nothing.")


_CODED: dict[str, type[CaravelError]] = {
    "subdomain-invalid": exceptions.InvalidSubdomain,
    "subdomain-reserved": exceptions.ReservedSubdomain,
    "subdomain-exists": exceptions.SubdomainTaken,
}


def _validate(relay: Relay, fields: Iterable[str]) -> None:
    for switch, feature in FEATURES.items():
        if getattr(relay, switch) and not getattr(relay.plan, feature):
            raise exceptions.PlanLacksFeature(f"{relay.plan} does not carry {feature}.")
    validate_fields(relay, {*fields} - {"subdomain"})
    reject_coercible(relay, "subdomain")
    try:
        relay.clean_fields(exclude=set(EDITABLE) - {"subdomain"} | {"tenant", "plan"})
        relay.validate_constraints()
    except ValidationError as exc:
        raise _coded(exc) from exc


def _coded(error: ValidationError) -> CaravelError:
    first = next(iter(error.error_dict.values()))[0]
    kind = _CODED.get(str(first.code))
    return kind(first.messages[0]) if kind else invalid_field(error)


def _save(relay: Relay, type: Activity.Type, *fields: str) -> None:
    relay.synced = False
    relay.save(update_fields=[*fields, "synced"])
    _record(relay, type)


def _record(relay: Relay, type: Activity.Type) -> None:
    record_activity(
        tenant_id=relay.tenant_id,
        type=type,
        subject_type="relay",
        subject_id=str(relay.pk),
        snapshot={"plan": relay.plan_id, "status": relay.status},
    )
