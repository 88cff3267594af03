"""Alerts about refusals that last until a person acts; the sync shows them, too."""

from collections.abc import Container, Mapping

from billing.clients.stripe.errors import (
    StripeAccountMismatch,
    StripeRefused,
    StripeUnreadable,
)
from billing.exceptions import DisputeUnknown
from billing.models import SubscriptionSync
from billing.services.subscriptions.diff import unbilled_plans
from caravel.core.alerts import alert_support
from caravel.core.exceptions import CaravelError
from relays.exceptions import PriceMissing
from relays.models import Plan
from tenants.models import Tenant

#: Failures in a row that are no coincidence.
_REFUSED_AGAIN = 2
#: By the back-off of `caravel.core.db.work_items`, about five hours.
_STUCK = 12
#: Failures with an alert of their own.
_TOLD = (DisputeUnknown, PriceMissing, StripeAccountMismatch)


def require_all_billed(
    tenant: Tenant, items: Container[str], refusals: Mapping[str, str]
) -> None:
    """Alert support and raise PriceMissing if relays of the tenant run without a price.

    `items` are those of its subscription, without refused ones it cannot have.
    """
    plans = Plan.objects.filter(stripe_price_id__in=refusals)
    refused = {plan.pk: refusals[str(plan.stripe_price_id)] for plan in plans}
    unbilled = unbilled_plans(tenant.pk, items) | refused
    for plan, reason in unbilled.items():
        # One alert for all of its tenants: their syncs show the same.
        message = f"Relays on the plan {plan} are not billed: {reason}"
        alert_support("plan_not_billed", message, plan=plan)
    if unbilled:
        reasons = [f"{plan}: {reason}" for plan, reason in unbilled.items()]
        raise PriceMissing(f"Not billed: {'; '.join(reasons)}")


def alert_if_stuck(tenant_id: str, error: CaravelError) -> None:
    """Alert support to a sync that a retry will not help.

    Not for a failure with an alert of its own.
    """
    if isinstance(error, _TOLD):
        return
    rows = SubscriptionSync.objects.filter(pk=tenant_id)
    failures = rows.values_list("failures", flat=True).first() or 0
    is_refused = isinstance(error, StripeRefused | StripeUnreadable)
    if failures >= (_REFUSED_AGAIN if is_refused else _STUCK):
        message = f"The subscription of a tenant cannot be synced: {error}"
        alert_support("sync_stuck", message, tenant=tenant_id)
