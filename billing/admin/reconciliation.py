"""Admin of the comparisons of all subscriptions with the relays."""

from django.contrib import admin

from billing.models import ReconciliationRun
from caravel.core.admin import WorkAdmin


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(WorkAdmin):
    list_display = (
        "started_at",
        "state",
        "progress",
        "drift",
        "requests",
        "error_summary",
        "finished_at",
    )
    fields = (
        "state",
        "progress",
        "drift",
        "subscriptions",
        "requests",
        "stale_tenants",
        "started_at",
        "finished_at",
        "last_error",
        "failures",
        "next_attempt_at",
        "lease_until",
    )
    readonly_fields = fields
    list_filter = ("state",)

    @admin.display(description="tenants that differed, by reason")
    def drift(self, run: ReconciliationRun) -> str:
        counts = sorted(run.drifted.items())
        return ", ".join(f"{reason}: {count}" for reason, count in counts) or "none"
