from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Min, OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils import timezone

from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Settlement,
    StripeEvent,
    StripeWrite,
    SubscriptionSync,
)
from billing.models.collections import InvoiceCollectionQuerySet
from billing.money import format_amount
from billing.services.collection.attempts import collect_now
from billing.services.credits.posting import retry_credit
from billing.services.customers.closing import close_tenant, reopen_tenant
from billing.services.dunning.review import end_grace_now, extend_grace
from billing.services.events.process import requeue_event
from billing.services.sync.queue import mark_stale
from billing.tasks import post_credit, process_stripe_event
from caravel.core.admin import ReadOnlyAdmin, WorkAdmin
from tenants.admin import TenantAdmin
from tenants.models import Tenant


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
class SubscriptionSyncAdmin(WorkAdmin):
    list_display = (
        "tenant",
        "is_in_sync",
        "synced_at",
        "stale_since",
        "failures",
        "why",
        "retry_at",
    )
    fields = (
        "tenant",
        "is_in_sync",
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


@admin.register(StripeWrite)
class StripeWriteAdmin(ReadOnlyAdmin):
    list_display = ("kind", "state", "tenant", "stripe_id", "created_at", "resolved_at")
    list_filter = ("state", "kind")
    search_fields = ("idempotency_key", "stripe_id", "tenant__pubkey")
    list_select_related = ("tenant",)


@admin.register(Credit)
class CreditAdmin(WorkAdmin):
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

    @admin.action(description="Post now", permissions=["operate"])
    def post_now(self, request: HttpRequest, queryset: QuerySet[Credit]) -> None:
        ids = [credit.pk for credit in queryset if retry_credit(credit_id=credit.pk)]
        for credit_id in ids:
            post_credit.delay_on_commit(credit_id)
        self.message_user(request, f"Enqueued {len(ids)} credits.")


@admin.register(InvoiceCollection)
class InvoiceCollectionAdmin(ReadOnlyAdmin):
    list_display = (
        "__str__",
        "tenant",
        "stripe_status",
        "state",
        "remaining",
        "suspend_at",
        "outcome",
        "last_error_code",
    )
    list_filter = ("state", "stripe_status", "paid_by", "last_error_code", "currency")
    search_fields = (
        "stripe_invoice_id",
        "number",
        "tenant__pubkey",
        "stripe_customer_id",
        "stripe_subscription_id",
    )
    list_select_related = ("tenant",)
    date_hierarchy = "created_at"
    actions = ("collect", "three_days_more", "seven_days_more", "end_grace")

    @admin.display(description="to pay", ordering="amount_remaining_cents")
    def remaining(self, collection: InvoiceCollection) -> str:
        return format_amount(collection.amount_remaining_cents, collection.currency)

    @admin.action(description="Collect now", permissions=["operate"])
    def collect(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        """Try wallet and card at once; look again at those that are not open."""
        begun = sum(collect_now(invoice_id=each.pk) for each in queryset)
        looked_at = len(queryset) - begun
        self.message_user(
            request, f"Collecting {begun} invoices, looking at {looked_at} others."
        )

    @admin.action(description="Give three days more", permissions=["operate"])
    def three_days_more(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        self._postpone(request, queryset, timedelta(days=3))

    @admin.action(description="Give seven days more", permissions=["operate"])
    def seven_days_more(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        self._postpone(request, queryset, timedelta(days=7))

    @admin.action(description="End the grace now", permissions=["operate"])
    def end_grace(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        in_grace = queryset.unpaid().filter(suspend_at__gt=timezone.now())
        ended = list(in_grace.order_by("pk"))
        for each in ended:
            end_grace_now(tenant_id=each.tenant_id, invoice_ids=[each.pk])
        self.message_user(request, f"Ended the grace of {len(ended)} invoices.")

    def _postpone(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet, by: timedelta
    ) -> None:
        done = sum(
            extend_grace(invoice_id=row.pk, by=by) for row in queryset.order_by("pk")
        )
        self.message_user(request, f"Gave {by.days} days more for {done} invoices.")


@admin.register(CardAttempt)
class CardAttemptAdmin(ReadOnlyAdmin):
    list_display = (
        "collection",
        "state",
        "amount_cents",
        "payment_method",
        "code",
        "created_at",
        "resolved_at",
    )
    list_filter = ("state", "code")
    search_fields = (
        "collection__stripe_invoice_id",
        "collection__tenant__pubkey",
        "payment_method",
        "idempotency_key",
    )
    list_select_related = ("collection",)


@admin.register(Settlement)
class SettlementAdmin(ReadOnlyAdmin):
    list_display = (
        "invoice",
        "collection",
        "state",
        "marked_cents",
        "surplus_cents",
        "created_at",
        "resolved_at",
    )
    list_filter = ("state",)
    search_fields = (
        "invoice__payment_hash",
        "collection__stripe_invoice_id",
        "collection__tenant__pubkey",
    )
    list_select_related = ("invoice", "collection")


admin.site.unregister(Tenant)


@admin.register(Tenant)
class BilledTenantAdmin(TenantAdmin):
    """A tenant with what it owes, and the end of its account."""

    list_display = (*TenantAdmin.list_display, "unpaid")
    readonly_fields = (
        *TenantAdmin.readonly_fields,
        "unpaid",
        "payment_overdue_since",
        "closed_at",
    )
    actions = ("close", "reopen")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        unpaid = InvoiceCollection.objects.unpaid().filter(tenant=OuterRef("pk"))
        # A tenant is billed in one currency, that of its plans.
        sums = (
            unpaid.order_by()
            .values("tenant")
            .annotate(cents=Sum("amount_remaining_cents"), code=Min("currency"))
        )
        return (
            super()
            .get_queryset(request)
            .annotate(
                unpaid_cents=Subquery(sums.values("cents")),
                unpaid_currency=Subquery(sums.values("code")),
            )
        )

    @admin.display(description="unpaid", ordering="unpaid_cents")
    def unpaid(self, tenant: Any) -> str:
        if not tenant.unpaid_cents:
            return "–"
        return format_amount(int(tenant.unpaid_cents), tenant.unpaid_currency)

    @admin.action(description="Close the account", permissions=["change"])
    def close(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        self._each(request, queryset, close_tenant, "Closed")

    @admin.action(description="Open the account again", permissions=["change"])
    def reopen(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        self._each(request, queryset, reopen_tenant, "Opened again")

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Tenant],
        service: Callable[..., bool],
        did: str,
    ) -> None:
        done = sum(service(tenant_id=tenant.pk) for tenant in queryset.order_by("pk"))
        self.message_user(request, f"{did}: {done} accounts.")
