"""Quotas: how many relays a tenant can have, so that nobody takes them for nothing.

A relay counts until it is deleted, on or off: it keeps its name. Those that were
created and deleted within a day have a quota, too: zooid keeps their tables for ever.
"""

from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from caravel.core.currencies import exponent
from relays.exceptions import FreeRelayQuota, NewRelayQuota, UnpaidRelayQuota
from relays.models import Plan, Relay
from tenants.models import Tenant

#: Relays of an account that may be created and deleted within a day.
MAX_DELETED_PER_DAY = 10
_DAY = timedelta(days=1)


def require_quota(tenant: Tenant, plan: Plan, *, changed: Relay | None = None) -> None:
    """Raise FreeRelayQuota, UnpaidRelayQuota or NewRelayQuota for one relay too many.

    The caller has locked the tenant, whose quotas for paid relays end with its first
    payment for a month. `changed` is a relay that moves to the plan.
    """
    others = Relay.objects.existing().filter(tenant=tenant)
    if changed is None and not (plan.is_paid and tenant.first_paid_at):
        _require_few_deleted(tenant)
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


def _require_few_deleted(tenant: Tenant) -> None:
    now = timezone.now()
    recent = Relay.objects.filter(tenant=tenant, created_at__gt=now - _DAY)
    deleted = recent.filter(deleted_at__isnull=False).order_by("created_at")
    times = list(deleted.values_list("created_at", flat=True))
    if len(times) >= MAX_DELETED_PER_DAY:
        free_at = times[-MAX_DELETED_PER_DAY] + _DAY
        raise NewRelayQuota(
            f"This account has created and deleted {MAX_DELETED_PER_DAY} relays within "
            "a day. Please wait, or ask support.",
            retry_after=(free_at - now).total_seconds(),
        )


def _unpaid_relay_quota(tenant: Tenant, currency: str) -> UnpaidRelayQuota:
    amount = Decimal(settings.QUOTA_UNPAID_CENTS).scaleb(-exponent(currency))
    return UnpaidRelayQuota(
        f"Until it has paid for a month, an account has at most "
        f"{settings.QUOTA_UNPAID_RELAYS} paid relays, on or off, for at most {amount} "
        f"{currency.upper()} a month. Pay the first invoice, or ask support for more.",
        tenant_id=tenant.pk,
    )
