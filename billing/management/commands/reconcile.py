import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.models import ReconciliationRun
from billing.services.reconciliation.reconcile import (
    RunOutcome,
    begin_run,
    continue_run,
)
from billing.services.sync.queue import mark_all_stale
from billing.tasks import discover_objects, sweep_stale_tenants

#: Seconds between two lines of progress.
_INTERVAL = 2.0


class Command(BaseCommand):
    help = "Compare all subscriptions at Stripe with the relays now, and show progress."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--every-tenant",
            action="store_true",
            help="sync every tenant by itself, also those that do not differ",
        )

    def handle(self, *args: Any, every_tenant: bool, **options: Any) -> None:
        if every_tenant:
            count = mark_all_stale()
            self.stdout.write(f"{count} tenants enqueued")
        else:
            self._run(begin_run().pk)
        sweep_stale_tenants.delay_on_commit()
        discover_objects.delay_on_commit()

    def _run(self, run_id: int) -> None:
        try:
            self._follow(run_id)
        except KeyboardInterrupt:
            raise CommandError("Interrupted; a worker will go on") from None

    def _follow(self, run_id: int) -> None:
        while True:
            outcome = continue_run(run_id=run_id, max_seconds=_INTERVAL)
            run = ReconciliationRun.objects.get(pk=run_id)
            if run.state == ReconciliationRun.State.FINISHED:
                return self._print_result(run)
            if outcome is RunOutcome.FAILED:
                raise CommandError(f"{run.last_error}; a worker will try again")
            self.stdout.write(run.progress)
            if outcome is RunOutcome.NOT_DUE:
                # A worker is at it, or will be: the error says why not yet.
                if run.last_error:
                    self.stderr.write(run.last_error)
                time.sleep(_INTERVAL)

    def _print_result(self, run: ReconciliationRun) -> None:
        self.stdout.write(run.progress)
        for reason, count in sorted(run.drifted.items()):
            self.stdout.write(f"  {reason}: {count}")
