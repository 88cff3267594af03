from datetime import datetime

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator

from billing.models import Credit, StripeEvent, StripeIntent, SubscriptionSync
from billing.services.credits import retry_credit
from billing.services.events import requeue_event
from billing.services.staleness import mark_stale
from billing.tasks import post_credit, process_stripe_event
from caravel.admin import ReadOnlyAdmin


class StaleFilter(admin.SimpleListFilter):
    title = "in step"
    parameter_name = "stale"

    def lookups(
        self, request: HttpRequest, model_admin: object
    ) -> list[tuple[str, str]]:
        return [("yes", "Stale"), ("failing", "Failing")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[SubscriptionSync]
    ) -> QuerySet[SubscriptionSync]:
        stale = SubscriptionSync.objects.stale()
        if self.value() == "failing":
            return queryset.filter(pk__in=stale.filter(failures__gt=0))
        return queryset.filter(pk__in=stale) if self.value() else queryset


@admin.register(SubscriptionSync)
class SubscriptionSyncAdmin(ReadOnlyAdmin):
    list_display = (
        "tenant",
        "in_step",
        "synced_at",
        "stale_since",
        "failures",
        "why",
        "retry_at",
    )
    fields = (
        "tenant",
        "in_step",
        "last_error",
        "stale_since",
        "synced_at",
        "failures",
        "retry_at",
        "enqueued_at",
        "lease_until",
    )
    readonly_fields = fields
    list_filter = (StaleFilter, "last_error_code")
    list_select_related = ("tenant",)
    search_fields = ("tenant__pubkey", "tenant__stripe_customer_id")
    actions = ("sync_now",)

    @admin.display(boolean=True)
    def in_step(self, sync: SubscriptionSync) -> bool:
        return not sync.is_stale

    @admin.display(description="last error")
    def why(self, sync: SubscriptionSync) -> str:
        return Truncator(sync.last_error).chars(120)

    @admin.display(description="next attempt")
    def retry_at(self, sync: SubscriptionSync) -> datetime | None:
        return sync.next_attempt_at if sync.is_stale else None

    @admin.action(description="Sync with Stripe now", permissions=["operate"])
    def sync_now(
        self, request: HttpRequest, queryset: QuerySet[SubscriptionSync]
    ) -> None:
        for sync in queryset:
            mark_stale(tenant_id=sync.pk, by_hand=True)
        self.message_user(request, f"Enqueued {len(queryset)} syncs.")


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = (
        "type",
        "status",
        "tenant",
        "received_at",
        "outcome",
        "last_error_code",
    )
    list_filter = ("status", "type", "livemode")
    search_fields = ("id", "tenant__pubkey")
    list_select_related = ("tenant",)
    date_hierarchy = "received_at"
    actions = ("process_again",)

    @admin.action(description="Process failed or parked again", permissions=["operate"])
    def process_again(
        self, request: HttpRequest, queryset: QuerySet[StripeEvent]
    ) -> None:
        ids = [event.pk for event in queryset if requeue_event(event_id=event.pk)]
        for event_id in ids:
            process_stripe_event.delay_on_commit(event_id)
        self.message_user(request, f"Enqueued {len(ids)} events.")


@admin.register(StripeIntent)
class StripeIntentAdmin(ReadOnlyAdmin):
    list_display = ("kind", "state", "tenant", "stripe_id", "created_at", "resolved_at")
    list_filter = ("state", "kind")
    search_fields = ("idempotency_key", "stripe_id", "tenant__pubkey")
    list_select_related = ("tenant",)


@admin.register(Credit)
class CreditAdmin(ReadOnlyAdmin):
    list_display = (
        "tenant",
        "reason",
        "state",
        "amount_cents",
        "currency",
        "collection",
        "note_cents",
        "balance_cents",
        "created_at",
        "why",
    )
    list_filter = ("state", "reason", "last_error_code")
    list_select_related = ("tenant", "collection")
    search_fields = ("source", "collection__pk", "tenant__pubkey")
    actions = ("post_now",)

    @admin.display(description="last error")
    def why(self, credit: Credit) -> str:
        return Truncator(credit.last_error).chars(120)

    @admin.action(description="Post now", permissions=["operate"])
    def post_now(self, request: HttpRequest, queryset: QuerySet[Credit]) -> None:
        ids = [credit.pk for credit in queryset if retry_credit(credit_id=credit.pk)]
        for credit_id in ids:
            post_credit.delay_on_commit(credit_id)
        self.message_user(request, f"Enqueued {len(ids)} credits.")
