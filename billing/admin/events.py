"""Admin of the webhook inbox."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.models import StripeCursor, StripeEvent
from billing.services.events.process import requeue_event
from billing.tasks import process_stripe_event
from caravel.core.admin import ReadOnlyAdmin, counted, mask_links
from caravel.core.admin_lists import TimeFilter
from tenants.admin import NpubSearchAdmin


@admin.register(StripeEvent)
class StripeEventAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "type",
        "status",
        "tenant",
        "received_at",
        "outcome",
        "last_error_code",
    )
    list_filter = ("status", "type", ("received_at", TimeFilter))
    search_fields = ("id__startswith", "tenant__pubkey__startswith")
    list_prefetch_related = ("tenant",)
    exclude = ("body",)
    readonly_fields = ("body_without_links",)
    actions = ("process_again",)

    @admin.display(description="body")
    def body_without_links(self, event: StripeEvent) -> str:
        return mask_links(event.body)

    @admin.action(description="Process again", permissions=["operate"])
    def process_again(
        self, request: HttpRequest, queryset: QuerySet[StripeEvent]
    ) -> None:
        ids = [event.pk for event in queryset if requeue_event(event_id=event.pk)]
        for event_id in ids:
            process_stripe_event.delay_on_commit(event_id)
        self.message_user(request, f"Enqueued {counted(len(ids), 'event')}.")


@admin.register(StripeCursor)
class StripeCursorAdmin(ReadOnlyAdmin):
    list_display = ("name", "read_until", "read_at", "last_error_code", "last_error")
