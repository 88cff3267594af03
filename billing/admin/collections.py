"""Admin of invoice collections, card attempts and settlements."""

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from billing.admin.reversals import ReversalInline, write_off_dispute_debts
from billing.models import CardAttempt, InvoiceCollection, Settlement
from billing.models.collections import InvoiceCollectionQuerySet
from billing.money import format_amount
from billing.services.collection.attempts import collect_now
from billing.services.dunning.suspension import end_grace_now, extend_grace
from billing.services.invoices.payment_link import payment_url
from caravel.core.admin import ReadOnlyAdmin, counted
from caravel.core.admin_lists import TimeFilter
from caravel.core.exceptions import CaravelError
from tenants.admin import NpubSearchAdmin


@admin.register(InvoiceCollection)
class InvoiceCollectionAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "__str__",
        "tenant",
        "stripe_status",
        "state",
        "hold",
        "owed",
        "suspend_at",
        "outcome",
        "last_error_code",
    )
    list_filter = (
        "state",
        "hold",
        "stripe_status",
        "paid_by",
        "last_error_code",
        ("created_at", TimeFilter),
    )
    search_fields = (
        "stripe_invoice_id__startswith",
        "number__startswith",
        "tenant__pubkey__startswith",
        "stripe_customer_id__startswith",
        "stripe_subscription_id__startswith",
    )
    list_prefetch_related = ("tenant",)
    # Whoever has the link can see and pay the invoice at Stripe.
    exclude = ("hosted_invoice_url",)
    readonly_fields = ("payment_page",)
    actions = (
        "collect",
        "three_days_more",
        "seven_days_more",
        "end_grace",
        "write_off_dispute",
    )
    inlines = (ReversalInline,)

    def get_fields(
        self, request: HttpRequest, obj: InvoiceCollection | None = None
    ) -> Any:
        fields = [
            name for name in super().get_fields(request, obj) if name != "payment_page"
        ]
        # The link is a credential: with it anybody can see and pay the invoice.
        link = ["payment_page"] if self.has_operate_permission(request) else []
        return [*link, *fields]

    @admin.display(description="payment page")
    def payment_page(self, collection: InvoiceCollection) -> str:
        return format_html(
            '<a href="{}" target="_blank" rel="noopener">Open the tenant’s page</a>',
            payment_url(collection),
        )

    @admin.display(description="owed", ordering="amount_remaining_cents")
    def owed(self, collection: InvoiceCollection) -> str:
        return format_amount(collection.owed_cents, collection.currency)

    @admin.action(description="Collect now", permissions=["operate"])
    def collect(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        """Start an attempt for each open invoice; read the others again."""
        started = sum(collect_now(invoice_id=each.pk) for each in queryset)
        others = len(queryset) - started
        self.message_user(
            request,
            f"Collecting {counted(started, 'invoice')}, refreshing {others} more.",
        )

    @admin.action(
        description="Extend the grace period by three days", permissions=["operate"]
    )
    def three_days_more(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        self._extend_grace(request, queryset, timedelta(days=3))

    @admin.action(
        description="Extend the grace period by seven days", permissions=["operate"]
    )
    def seven_days_more(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        self._extend_grace(request, queryset, timedelta(days=7))

    @admin.action(description="End the grace period now", permissions=["operate"])
    def end_grace(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        in_grace = queryset.unpaid().filter(suspend_at__gt=timezone.now())
        collections = list(in_grace.order_by("pk"))
        for each in collections:
            end_grace_now(tenant_id=each.tenant_id, invoice_ids=[each.pk])
        self.message_user(
            request,
            f"Ended the grace period of {counted(len(collections), 'invoice')}.",
        )

    @admin.action(description="Write off the dispute debt", permissions=["operate"])
    def write_off_dispute(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet
    ) -> None:
        ids = list(queryset.disputed().order_by("pk").values_list("pk", flat=True))
        self.message_user(request, write_off_dispute_debts(ids))

    def _extend_grace(
        self, request: HttpRequest, queryset: InvoiceCollectionQuerySet, by: timedelta
    ) -> None:
        done = 0
        for row in queryset.order_by("pk"):
            try:
                done += extend_grace(invoice_id=row.pk, by=by)
            except CaravelError as exc:
                self.message_user(request, str(exc), messages.ERROR)
        self.message_user(
            request,
            f"Extended the grace period of {counted(done, 'invoice')} "
            f"by {by.days} days.",
        )


@admin.register(CardAttempt)
class CardAttemptAdmin(NpubSearchAdmin, ReadOnlyAdmin):
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
        "collection__stripe_invoice_id__startswith",
        "collection__tenant__pubkey__startswith",
        "payment_method__exact",
        "idempotency_key__exact",
    )
    list_prefetch_related = ("collection",)


@admin.register(Settlement)
class SettlementAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "invoice",
        "collection",
        "state",
        "marked_cents",
        "repaid_cents",
        "surplus_cents",
        "created_at",
        "resolved_at",
    )
    list_filter = ("state",)
    search_fields = (
        "invoice__payment_hash__startswith",
        "collection__stripe_invoice_id__startswith",
        "collection__tenant__pubkey__startswith",
    )
    list_prefetch_related = ("invoice", "collection")
