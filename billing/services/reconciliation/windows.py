"""Windows into which Stripe's list is divided, so that several are read at once."""

from itertools import pairwise

from django.db import connection, transaction
from django.db.models import Sum

from billing.models import (
    ReconciliationRun,
    ReconciliationWindow,
    StagedSubscription,
)
from caravel.core.db.leases import Lease
from caravel.core.exceptions import LeaseLost

#: At least this many subscriptions: the last page of a window is seldom full.
_MIN_SUBSCRIPTIONS = 1_000
_MAX_WINDOWS = 64
#: Times that divide our subscriptions into equal parts: by the last list, or else by
#: the age of the tenants that have one.
_QUANTILES = """
    WITH times AS (
        SELECT created FROM billing_stagedsubscription
        UNION ALL
        SELECT extract(epoch FROM created_at)::bigint FROM tenants_tenant
        WHERE stripe_subscription_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM billing_stagedsubscription)
    ),
    parts AS (SELECT least(count(*) / %s, %s) AS number FROM times)
    SELECT DISTINCT unnest(percentile_disc(
        ARRAY(SELECT n::float / number FROM parts, generate_series(1, number - 1) n)
    ) WITHIN GROUP (ORDER BY created)) AS quantile
    FROM times ORDER BY quantile
"""


def prepare_windows(lease: Lease) -> None:
    """Make the windows of a run if it has none, or list again what was lost.

    Raises LeaseLost if another worker has taken over: two of them would make each
    window twice, and no list could ever be stored.
    """
    with transaction.atomic():
        run = lock_run(lease)
        if not run.windows.exists():
            _create_windows(run)
        elif is_list_lost(run):
            run.windows.all().delete()
            _create_windows(run)
            rows = ReconciliationRun.objects.filter(pk=run.pk)
            rows.update(subscriptions=0, compared_until="")


def lock_run(lease: Lease) -> ReconciliationRun:
    """Return the run, locked for the caller's transaction. Raises LeaseLost."""
    rows = ReconciliationRun.objects.filter(pk__in=lease.row())
    run: ReconciliationRun | None = rows.select_for_update().first()
    if run is None:
        raise LeaseLost("Another worker has taken over the reconciliation.")
    return run


def is_list_lost(run: ReconciliationRun) -> bool:
    """Return whether subscriptions are missing that the run has listed.

    PostgreSQL empties their table after a crash, and on a server that takes over.
    """
    listed = run.windows.aggregate(count=Sum("count", default=0))["count"]
    staged = StagedSubscription.objects.all()
    # Once the comparison has begun nothing is added: all is there, or nothing.
    if run.compared_until:
        return bool(listed) and not staged.exists()
    return bool(listed != staged.count())


def restart_window(window: ReconciliationWindow) -> None:
    """List a window again: the subscription up to which it was read is no more.

    Raises LeaseLost if another worker has read on.
    """
    bounds = {"created__gte": window.created_gte, "created__lt": window.created_lt}
    known = {name: at for name, at in bounds.items() if at is not None}
    rows = ReconciliationWindow.objects.filter(
        pk=window.pk, starting_after=window.starting_after, done=False
    )
    with transaction.atomic():
        if not rows.update(starting_after="", count=0):
            raise LeaseLost("Another worker has taken over the reconciliation.")
        StagedSubscription.objects.filter(**known).delete()
    window.starting_after = ""


def _create_windows(run: ReconciliationRun) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_QUANTILES, [_MIN_SUBSCRIPTIONS, _MAX_WINDOWS])
        quantiles = [created for (created,) in cursor.fetchall()]
        cursor.execute("TRUNCATE billing_stagedsubscription")
    # Without bounds at both ends: Stripe's clock may differ from ours.
    ReconciliationWindow.objects.bulk_create(
        ReconciliationWindow(run=run, created_gte=start, created_lt=end)
        for start, end in pairwise([None, *quantiles, None])
    )
