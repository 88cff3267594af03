"""Reconciliations, and the tenants that they find."""

from billing.models import ReconciliationRun, SubscriptionSync
from billing.services.reconciliation.reconcile import (
    RunOutcome,
    begin_run,
    continue_run,
)


def reconcile() -> ReconciliationRun:
    """Run one reconciliation to its end."""
    run = begin_run()
    assert continue_run(run_id=run.pk) == RunOutcome.FINISHED
    run.refresh_from_db()
    return run


def stale_tenants() -> set[str]:
    return set(SubscriptionSync.objects.stale().values_list("pk", flat=True))


def reasons_found() -> dict[str, int]:
    """Run one reconciliation; return the reasons for which tenants were found."""
    reasons: dict[str, int] = reconcile().drifted
    return reasons
