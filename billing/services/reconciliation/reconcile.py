"""Reconciliation of all subscriptions with the relays: one run at a time, on any host.

A run lists the subscriptions at Stripe, compares them with the relays, and makes a sync
due only for the tenants that it would change. It is worked on in parts, so that no
queue waits for its end, and continued by another worker after a crash.
"""

import time
from datetime import timedelta
from enum import Enum, StrEnum, auto

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from billing.clients.stripe.errors import StripeRefused, StripeUnreadable
from billing.models import ReconciliationRun
from billing.services.customers.stripe_account import check_account
from billing.services.reconciliation.comparison import Chunk, mark_drifted
from billing.services.reconciliation.listing import Listing
from billing.services.reconciliation.strangers import alert_strangers
from billing.services.reconciliation.windows import (
    is_list_lost,
    lock_run,
    prepare_windows,
)
from caravel.core.alerts import alert_support
from caravel.core.db.leases import Lease
from caravel.core.exceptions import CaravelError, LeaseLost
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: Seconds that a worker continues a run before other messages have their turn.
_MAX_SECONDS = 60.0
#: Tenants that one query compares.
_CHUNK = 10_000
_KEPT_RUNS = 100
#: Share of the period after which the next run is due: beat is not exact.
_MIN_AGE = 0.9
#: Periods after which support is told of a run that does not end.
_STUCK = 3


class RunOutcome(StrEnum):
    FINISHED = "finished"
    CONTINUED = "to be continued"
    NOT_DUE = "finished before, held by another worker, or waiting after a failure"
    FAILED = "failed; the error is recorded and the run will be continued"


class Step(Enum):
    """The result of comparing one part of the tenants."""

    MORE = auto()
    DONE = auto()
    LOST = auto()


def begin_due_run() -> ReconciliationRun | None:
    """Begin a run if the last one began a period ago, or continue the unfinished one.

    Returns None if none is due.
    """
    period = timedelta(seconds=settings.RECONCILIATION_PERIOD)
    now = timezone.now()
    unfinished = ReconciliationRun.objects.unfinished().first()
    if unfinished and unfinished.started_at < now - _STUCK * period:
        message = f"The reconciliation does not end. {unfinished.last_error}"
        alert_support("reconciliation_stuck", message, run=unfinished.pk)
    last = ReconciliationRun.objects.first()
    is_recent = last is not None and last.started_at > now - _MIN_AGE * period
    return None if is_recent and not unfinished else begin_run()


def begin_run() -> ReconciliationRun:
    """Begin a run, or join the unfinished one; enqueues it if it is not yet."""
    with transaction.atomic():
        run, _ = ReconciliationRun.objects.get_or_create(
            state=ReconciliationRun.State.RUNNING
        )
        if not run.is_enqueued(timezone.now()):
            run.enqueue()
    return run


def continue_run(*, run_id: int, max_seconds: float = _MAX_SECONDS) -> RunOutcome:
    """Continue a run for a while, unless another worker does.

    An expected failure is recorded on the run and retried by the sweep; an unexpected
    one is recorded and raised.
    """
    lease = Lease.acquire(ReconciliationRun, run_id)
    if lease is None:
        return RunOutcome.NOT_DUE
    try:
        is_finished = _work(lease, deadline=time.monotonic() + max_seconds)
    except LeaseLost as exc:
        logger.warning("reconciliation_lease_lost", error=exc.message)
        return RunOutcome.NOT_DUE
    except CaravelError as exc:
        lease.release_failed(exc)
        _report_failure(exc)
        return RunOutcome.FAILED
    except Exception as exc:
        lease.release_failed(exc)
        raise
    if not is_finished:
        lease.release_waiting(seconds=0)
        return RunOutcome.CONTINUED
    lease.release()
    _finish(run_id)
    return RunOutcome.FINISHED


def _work(lease: Lease, *, deadline: float) -> bool:
    """List, then compare; returns whether both are done."""
    # Before the threads: only this one may use the database.
    check_account()
    prepare_windows(lease)
    if not Listing(lease, deadline=deadline).read():
        return False
    with connection.cursor() as cursor:
        # The planner knows nothing yet of a table that was just filled.
        cursor.execute("ANALYZE billing_stagedsubscription")
    while (step := _compare_next(lease)) is Step.MORE:
        lease.renew()
        if time.monotonic() > deadline:
            return False
    return step is Step.DONE


def _compare_next(lease: Lease) -> Step:
    """Compare the next tenants, unless what was listed is lost."""
    with transaction.atomic():
        run = lock_run(lease)
        if is_list_lost(run):
            # Every tenant would seem to differ. The next part lists again.
            return Step.LOST
        chunk = _next_chunk(run.compared_until)
        stale, reasons = mark_drifted(chunk, listed_since=run.started_at)
        run.stale_tenants += stale
        run.compared_until = chunk.until
        for reason, count in reasons.items():
            run.drifted[reason] = run.drifted.get(reason, 0) + count
        if not chunk.until and (strangers := alert_strangers()):
            run.drifted["other_customer"] = strangers
        run.save(update_fields=["stale_tenants", "compared_until", "drifted"])
    return Step.MORE if chunk.until else Step.DONE


def _next_chunk(after: str) -> Chunk:
    keys = Tenant.objects.filter(pk__gt=after).order_by("pk")
    last = keys.values_list("pk", flat=True)[_CHUNK - 1 : _CHUNK].first()
    return Chunk(after=after, until=last or "")


def _finish(run_id: int) -> None:
    run = ReconciliationRun.objects.get(pk=run_id)
    logger.info(
        "reconciled",
        subscriptions=run.subscriptions,
        requests=run.requests,
        stale_tenants=run.stale_tenants,
        drifted=run.drifted,
    )
    kept = ReconciliationRun.objects.values_list("pk", flat=True)[:_KEPT_RUNS]
    ReconciliationRun.objects.filter(pk__lt=min(kept)).delete()


def _report_failure(error: CaravelError) -> None:
    if isinstance(error, StripeRefused | StripeUnreadable):
        # It will not end by itself, such as that of a key without the permission.
        alert_support("subscriptions_not_listed", str(error))
    logger.warning("reconciliation_failed", code=error.code, error=error.message)
