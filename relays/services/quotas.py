"""Quotas: how many relays a tenant can have, so that nobody takes them for nothing.

A relay counts until it is deleted, on or off: it keeps its name.
"""

from decimal import Decimal

from django.conf import settings
from django.db.models import Sum

from caravel.core.currencies import exponent
from relays.exceptions import FreeRelayQuota, UnpaidRelayQuota
from relays.models import Plan, Relay
from tenants.models import Tenant


def require_quota(tenant: Tenant, plan: Plan, *, changed: Relay | None = None) -> None:
    """Raise FreeRelayQuota or UnpaidRelayQuota if one more relay is too many.

    The caller has locked the tenant, whose quotas for paid relays end with its first
    payment for a month. `changed` is a relay that moves to the plan.
    """
    others = Relay.objects.existing().filter(tenant=tenant)
    if changed:
        others = others.exclude(pk=changed.pk)
    if not plan.is_paid:
        _require_free(others.filter(plan__amount_cents=0).count())
    elif tenant.first_paid_at is None:
        paid = others.paid()
        cents = paid.aggregate(cents=Sum("plan__amount_cents", default=0))["cents"]
        is_too_much = cents + plan.amount_cents > settings.QUOTA_UNPAID_CENTS
        if is_too_much or paid.count() >= settings.QUOTA_UNPAID_RELAYS:
            raise _unpaid_relay_quota(tenant, plan.currency)


def _require_free(count: int) -> None:
    maximum = settings.QUOTA_FREE_RELAYS
    if count >= maximum:
        raise FreeRelayQuota(
            f"An account has at most {maximum} free relays, on or off. Delete one, "
            "move one to a paid plan, or ask support for more."
        )


def _unpaid_relay_quota(tenant: Tenant, currency: str) -> UnpaidRelayQuota:
    amount = Decimal(settings.QUOTA_UNPAID_CENTS).scaleb(-exponent(currency))
    return UnpaidRelayQuota(
        f"Until it has paid for a month, an account has at most "
        f"{settings.QUOTA_UNPAID_RELAYS} paid relays, on or off, for at most {amount} "
        f"{currency.upper()} a month. Pay the first invoice, or ask support for more.",
        tenant_id=tenant.pk,
    )
