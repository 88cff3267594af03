"""Admin pages of exports."""

from datetime import datetime

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from caravel.core.admin import WorkAdmin, counted
from relays.models import RelayExport
from relays.services.exports.order import cancel_export


@admin.register(RelayExport)
class RelayExportAdmin(WorkAdmin):
    """Progress of exports. The file itself is the owner's: it is not offered here."""

    list_display = (
        "relay",
        "state",
        "events",
        "size",
        "reached_at",
        "created_at",
        "finished_at",
        "error_summary",
    )
    list_filter = ("state",)
    search_fields = (
        "relay__subdomain__icontains",
        "relay__tenant__pubkey__startswith",
    )
    list_prefetch_related = ("relay",)
    # Without the private name: whoever knows it can find the relay while it is off.
    fields = (
        "relay",
        "state",
        "events",
        "size",
        "gaps",
        "reached_at",
        "created_at",
        "finished_at",
        "expires_at",
        "failures",
        "next_attempt_at",
        "last_error_code",
        "last_error",
    )
    actions = ("cancel",)

    @admin.display(ordering="size_bytes")
    def size(self, export: RelayExport) -> str:
        return filesizeformat(export.size_bytes)

    @admin.display(description="reached")
    def reached_at(self, export: RelayExport) -> datetime | None:
        return export.reached_at

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[RelayExport]) -> None:
        ids = [export.pk for export in queryset if export.is_unfinished]
        for export_id in ids:
            cancel_export(export_id=export_id)
        self.message_user(request, f"Canceled {counted(len(ids), 'export')}.")
