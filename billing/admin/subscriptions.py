"""Admin of subscription syncs and of writes to Stripe."""

from datetime import datetime

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.models import StripeWrite, SubscriptionSync
from billing.services.sync.queue import mark_stale
from caravel.core.admin import ReadOnlyAdmin, WorkAdmin, counted
from tenants.admin import NpubSearchAdmin


class StaleFilter(admin.SimpleListFilter):
    title = "in sync"
    parameter_name = "stale"

    def lookups(
        self, request: HttpRequest, model_admin: object
    ) -> list[tuple[str, str]]:
        return [("yes", "Stale"), ("failing", "Failing")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[SubscriptionSync]
    ) -> QuerySet[SubscriptionSync]:
        # Not by its versions: PostgreSQL expects two columns to differ in all rows.
        stale = queryset.filter(stale_since__isnull=False)
        if self.value() == "failing":
            return stale.filter(failures__gt=0)
        return stale if self.value() else queryset


@admin.register(SubscriptionSync)
class SubscriptionSyncAdmin(NpubSearchAdmin, WorkAdmin):
    list_display = (
        "tenant",
        "is_in_sync",
        "paused_at",
        "collection_pause",
        "synced_at",
        "stale_since",
        "failures",
        "error_summary",
        "retry_at",
    )
    fields = (
        "tenant",
        "is_in_sync",
        "paused_at",
        "collection_pause",
        "collection_resumes_at",
        "last_error",
        "stale_since",
        "synced_at",
        "failures",
        "retry_at",
        "enqueued_at",
        "lease_until",
        "terms",
        "foreign_ids",
    )
    readonly_fields = fields
    list_filter = (StaleFilter, "collection_pause", "last_error_code")
    list_prefetch_related = ("tenant",)
    search_fields = (
        "tenant__pubkey__startswith",
        "tenant__stripe_customer_id__startswith",
    )
    actions = ("sync_now",)

    @admin.display(description="in sync", boolean=True)
    def is_in_sync(self, sync: SubscriptionSync) -> bool:
        return not sync.is_stale

    @admin.display(description="next attempt")
    def retry_at(self, sync: SubscriptionSync) -> datetime | None:
        return sync.next_attempt_at if sync.is_stale else None

    @admin.action(description="Sync with Stripe now", permissions=["operate"])
    def sync_now(
        self, request: HttpRequest, queryset: QuerySet[SubscriptionSync]
    ) -> None:
        for sync in queryset:
            mark_stale(tenant_id=sync.pk, force=True)
        self.message_user(request, f"Enqueued {counted(len(queryset), 'sync')}.")


@admin.register(StripeWrite)
class StripeWriteAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = ("kind", "state", "tenant", "stripe_id", "created_at", "resolved_at")
    list_filter = ("state", "kind")
    search_fields = (
        "idempotency_key__startswith",
        "stripe_id__exact",
        "tenant__pubkey__startswith",
    )
    list_prefetch_related = ("tenant",)
