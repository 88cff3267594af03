"""Credits: recorded with their cause, then posted at Stripe once.

A credit is allocated in the transaction that records its credit note as pending, which
blocks payments of the invoice until Stripe answers. Steps: credit note, balance, done.
After a crash the next run resumes at the missing step.
"""

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.exceptions import CreditBlocked, CreditPending
from billing.models import Credit
from billing.services.credits.balance import adjust_customer_balance
from billing.services.credits.credit_notes import create_credit_note, plan_credit_note
from billing.services.dunning.notices import notify_overpayment
from billing.services.dunning.suspension import review_tenant
from caravel.core.db.work_items import NO_FAILURE, failure_columns
from caravel.core.exceptions import CaravelError, LeaseLost
from lightning.exceptions import PaymentInProgress
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

_RETRY_DELAY = timedelta(minutes=1)
_BLOCKED_DELAY = timedelta(hours=1)
#: A credit takes four steps; after a refused note they start over once.
_MAX_STEPS = 8


def record_credit(
    *,
    tenant_id: str,
    reason: Credit.Reason,
    source: str,
    currency: str,
    amount_cents: int,
    collection_id: str | None = None,
    covers_from: datetime | None = None,
    covers_until: datetime | None = None,
) -> Credit:
    """Record a credit and enqueue its posting, in the caller's transaction.

    Returns the credit recorded before if there is one for this reason and source.
    """
    credit, created = Credit.objects.get_or_create(
        reason=reason,
        source=source,
        defaults={
            "tenant_id": tenant_id,
            "currency": currency,
            "amount_cents": amount_cents,
            "collection_id": collection_id,
            "covers_from": covers_from,
            "covers_until": covers_until,
        },
    )
    if created:
        credit.enqueue()
    return credit


def post_credits(*, tenant_id: str, stripe: Stripe | None = None) -> bool:
    """Post a tenant's credits, oldest first; returns whether all are posted.

    Credits that wait for a draft to be finalized, for an uncollectible invoice to be
    paid, or for the tenant's next customer, do not count: that may never happen.
    """
    owed = Credit.objects.owed().filter(tenant=tenant_id)
    for credit_id in list(owed.order_by("pk").values_list("pk", flat=True)):
        post_credit(credit_id=credit_id, stripe=stripe)
    return not Credit.objects.unblocked().filter(tenant=tenant_id).exists()


def post_credit(*, credit_id: int, stripe: Stripe | None = None) -> bool:
    """Post a credit at Stripe, or resume where an earlier try ended.

    Returns whether it is posted. An expected failure is recorded and retried by the
    sweep; an unexpected one is recorded and raised. Raises LeaseLost as `stripe` does.
    """
    try:
        _post(stripe or Stripe(), credit_id)
    except LeaseLost:
        # The calling sync must stop; the credit itself has not failed.
        raise
    except (PaymentInProgress, CreditPending) as exc:
        _wait(credit_id, exc, until=getattr(exc, "until", None))
    except CaravelError as exc:
        _record_failure(credit_id, exc)
        logger.warning("credit_failed", credit=credit_id, error=exc.message)
    except Exception as exc:
        _record_failure(credit_id, exc)
        raise
    return not Credit.objects.owed().filter(pk=credit_id).exists()


def retry_credit(*, credit_id: int) -> bool:
    """Make an owed credit due now; returns False for any other."""
    now = timezone.now()
    owed = Credit.objects.owed().filter(pk=credit_id)
    return bool(owed.update(next_attempt_at=now, enqueued_at=now))


def _post(stripe: Stripe, credit_id: int) -> None:
    refused = False
    for _ in range(_MAX_STEPS):
        credit = Credit.objects.select_related("tenant").get(pk=credit_id)
        if credit.state == Credit.State.POSTED:
            return
        try:
            _take_step(stripe, credit)
        except StripeRefused:
            # The invoice may have changed since it was read: try once more.
            if refused:
                raise
            refused = True
    raise CreditPending("The invoice keeps changing.")


def _take_step(stripe: Stripe, credit: Credit) -> None:
    if credit.note_cents is None:
        plan_credit_note(stripe, credit)
    elif credit.note_cents and not credit.credit_note_id:
        create_credit_note(stripe, credit)
    elif credit.balance_cents and not credit.balance_transaction_id:
        adjust_customer_balance(stripe, credit)
    else:
        _finish(credit)


def _finish(credit: Credit) -> None:
    with transaction.atomic():
        Tenant.objects.lock(credit.tenant_id)
        posted = (
            Credit.objects.owed()
            .filter(pk=credit.pk)
            .update(
                state=Credit.State.POSTED,
                posted_at=timezone.now(),
                enqueued_at=None,
                **NO_FAILURE,
            )
        )
        if (
            posted
            and credit.reason == Credit.Reason.SURPLUS
            and credit.amount_cents > 0
        ):
            notify_overpayment(credit)
    if posted:
        logger.info(
            "credit_posted",
            credit=credit.pk,
            owed_cents=credit.amount_cents,
            note_cents=credit.note_cents,
            balance_cents=credit.balance_cents,
        )
        # A review reactivates no relays while a credit is owed, so repeat it now.
        review_tenant(tenant_id=credit.tenant_id)


def _wait(credit_id: int, reason: CaravelError, until: datetime | None) -> None:
    blocked = isinstance(reason, CreditBlocked)
    earliest = timezone.now() + (_BLOCKED_DELAY if blocked else _RETRY_DELAY)
    Credit.objects.owed().filter(pk=credit_id).update(
        next_attempt_at=max(until or earliest, earliest),
        enqueued_at=None,
        last_error=reason.message,
        last_error_code=reason.code,
    )


def _record_failure(credit_id: int, error: Exception) -> None:
    owed = Credit.objects.owed().filter(pk=credit_id)
    failures = owed.values_list("failures", flat=True).first() or 0
    owed.update(**failure_columns(error, failures=failures, now=timezone.now()))
