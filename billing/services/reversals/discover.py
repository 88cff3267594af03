"""Finding refunds, disputes and warnings whose webhooks were lost."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.utils import timezone

from billing.clients.stripe.client import Charge, Dispute, FraudWarning, Refund, Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.exceptions import ReversalChanged
from billing.models import Reversal
from billing.services.reversals.record import find_tenant, record_charge

logger = structlog.get_logger(__name__)

#: How long a refund that has succeeded may still fail:
#: https://docs.stripe.com/refunds#failed-refunds
_REFUNDS_FAIL_WITHIN = timedelta(days=30)
Found = Refund | Dispute | FraudWarning


def discover_reversals(stripe: Stripe, since: datetime) -> int:
    """Record what was created since, and what has changed of what is unsettled.

    Returns the number of charges that were read. A charge that Stripe refuses to show
    does not stop the others.
    """
    now = timezone.now()
    refunds = stripe.refunds.list(
        since=_seconds(_oldest(Reversal.Kind.REFUND, since, now))
    )
    disputes = stripe.disputes.list(
        since=_seconds(_oldest(Reversal.Kind.DISPUTE, since, now))
    )
    warnings = stripe.fraud_warnings.list(since=_seconds(since))
    charges = _changed_charges([*refunds, *disputes, *warnings], since)
    for charge_id in charges:
        try:
            _record(stripe, stripe.charges.get(charge_id))
        except (StripeRefused, ReversalChanged) as exc:
            logger.error("charge_not_recorded", charge=charge_id, error=exc.message)
    return len(charges)


def _oldest(kind: Reversal.Kind, since: datetime, now: datetime) -> datetime:
    """Return the creation of the oldest recorded reversal that may still change."""
    rows = Reversal.objects.unsettled().filter(kind=kind)
    if kind == Reversal.Kind.REFUND:
        rows = rows.filter(created_at__gte=now - _REFUNDS_FAIL_WITHIN)
    oldest = rows.order_by("created_at").values_list("created_at", flat=True).first()
    return min(oldest or since, since)


def _changed_charges(found: Sequence[Found], since: datetime) -> list[str]:
    """Return the charges of reversals that are new, or not as recorded."""
    rows = Reversal.objects.filter(pk__in=[each.id for each in found])
    recorded = dict(rows.values_list("pk", "state"))
    return sorted(
        {
            each.charge
            for each in found
            if each.charge and _is_news(each, recorded.get(each.id), since)
        }
    )


def _is_news(each: Found, recorded: str | None, since: datetime) -> bool:
    if recorded is None:
        # Older ones are foreign: they were examined when they were new.
        return each.created >= _seconds(since)
    return not isinstance(each, FraudWarning) and each.status not in ("", recorded)


def _record(stripe: Stripe, charge: Charge) -> None:
    if tenant := find_tenant(stripe, charge):
        record_charge(stripe, tenant, charge)


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
