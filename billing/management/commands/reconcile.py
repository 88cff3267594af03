from typing import Any

from django.core.management.base import BaseCommand

from billing.services.sync.queue import mark_all_stale
from billing.tasks import discover_objects, sweep_stale_tenants


class Command(BaseCommand):
    help = "Compare every tenant with Stripe now, as beat does every hour."

    def handle(self, *args: Any, **options: Any) -> None:
        count = mark_all_stale()
        sweep_stale_tenants.delay_on_commit()
        discover_objects.delay_on_commit()
        self.stdout.write(f"{count} tenants enqueued")
