"""Requirements of an account, a plan or a relay, before a change of a relay."""

from caravel.core.exceptions import CaravelError
from relays.exceptions import (
    BillingOnHold,
    PaymentOverdue,
    PriceMissing,
    RelayIsDelinquent,
    RelayIsFree,
    RelayIsInactive,
)
from relays.models import Plan, Relay
from tenants.exceptions import TenantClosed
from tenants.models import Tenant


def require_open_account(tenant: Tenant) -> None:
    """Raise TenantClosed for a closed account."""
    if tenant.closed_at:
        raise TenantClosed("This account is closed.")


def require_no_block(tenant: Tenant, plan: Plan) -> None:
    """Raise PaymentOverdue or BillingOnHold if the tenant cannot buy the plan now."""
    if plan.is_paid and tenant.must_pay_first:
        raise PaymentOverdue("Pay the open invoice first.", tenant_id=tenant.pk)
    if plan.is_paid and tenant.billing_on_hold_since:
        raise _on_hold()


def delinquent_error(relay: Relay) -> CaravelError:
    """Return the error for a relay that billing has switched off."""
    tenant = relay.tenant
    if tenant.billing_on_hold_since and not tenant.must_pay_first:
        return _on_hold()
    return RelayIsDelinquent("Pay the open invoices first.", tenant_id=tenant.pk)


def require_billable(
    tenant: Tenant, plan: Plan, *, changed: Relay | None = None
) -> None:
    """Raise PriceMissing if a relay on the plan would run without being billed.

    One subscription has one currency: that of the tenant's relays other than `changed`.
    """
    if not plan.is_sellable:
        raise PriceMissing("This plan cannot be bought at present.")
    others = (
        Relay.objects.paid().filter(tenant=tenant).exclude(status=Relay.Status.INACTIVE)
    )
    if changed:
        others = others.exclude(pk=changed.pk)
    if plan.is_paid and others.exclude(plan__currency=plan.currency).exists():
        raise PriceMissing(
            "This plan has another currency than the tenant's other relays."
        )


def require_suspendable(relay: Relay) -> None:
    """Raise RelayIsInactive, RelayIsDelinquent or RelayIsFree."""
    if relay.status == Relay.Status.INACTIVE:
        raise RelayIsInactive("This relay is inactive.")
    if relay.status == Relay.Status.DELINQUENT:
        raise RelayIsDelinquent("This relay is delinquent.", tenant_id=relay.tenant_id)
    if not relay.plan.is_paid:
        raise RelayIsFree("A free relay cannot be delinquent.")


def _on_hold() -> BillingOnHold:
    return BillingOnHold("Billing of this account is on hold. Please contact support.")
