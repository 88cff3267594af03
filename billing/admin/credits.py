"""Admin of credits."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.models import Credit
from billing.services.credits.posting import retry_credit
from billing.tasks import post_credit
from caravel.core.admin import WorkAdmin, counted
from tenants.admin import NpubSearchAdmin


@admin.register(Credit)
class CreditAdmin(NpubSearchAdmin, WorkAdmin):
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
        "error_summary",
    )
    list_filter = ("state", "reason", "last_error_code")
    list_prefetch_related = ("tenant", "collection")
    search_fields = (
        "source__exact",
        "collection__stripe_invoice_id__startswith",
        "tenant__pubkey__startswith",
    )
    actions = ("post_now",)

    @admin.action(description="Post to Stripe now", permissions=["operate"])
    def post_now(self, request: HttpRequest, queryset: QuerySet[Credit]) -> None:
        ids = [credit.pk for credit in queryset if retry_credit(credit_id=credit.pk)]
        for credit_id in ids:
            post_credit.delay_on_commit(credit_id)
        self.message_user(request, f"Enqueued {counted(len(ids), 'credit')}.")
