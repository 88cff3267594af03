"""Admin of refunds, disputes and early fraud warnings."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from billing.models import InvoiceCollection, Reversal
from billing.models.reversals import ReversalQuerySet
from billing.money import format_amount
from billing.services.reversals.debts import write_off_dispute_debt
from caravel.core.admin import ReadOnlyAdmin, counted
from caravel.core.admin_lists import TimeFilter
from tenants.admin import NpubSearchAdmin


def write_off_dispute_debts(invoice_ids: Sequence[str]) -> str:
    """Write off the dispute debts of invoices; returns the message for the user."""
    done = sum(write_off_dispute_debt(invoice_id=pk) > 0 for pk in invoice_ids)
    return f"Wrote off the dispute debt of {counted(done, 'invoice')}."


class ResponseFilter(admin.SimpleListFilter):
    title = "response"
    parameter_name = "response"

    def lookups(
        self, request: HttpRequest, model_admin: object
    ) -> list[tuple[str, str]]:
        return [("needed", "Needs a response")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Reversal]
    ) -> QuerySet[Reversal]:
        if not self.value():
            return queryset
        return queryset.filter(state__in=Reversal.RESPONSE_STATES)


@admin.register(Reversal)
class ReversalAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "stripe_id",
        "kind",
        "state",
        "tenant",
        "invoice",
        "amount",
        "reason",
        "evidence_due_at",
        "debt",
        "created_at",
    )
    list_filter = (
        ResponseFilter,
        "kind",
        "state",
        "reason",
        ("created_at", TimeFilter),
    )
    search_fields = (
        "stripe_id__startswith",
        "charge_id__exact",
        "collection__stripe_invoice_id__startswith",
        "collection__number__startswith",
        "tenant__pubkey__startswith",
    )
    list_prefetch_related = ("tenant", "collection")
    actions = ("write_off",)

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        """Order by the time by which evidence is due, soonest first."""
        return (F("evidence_due_at").asc(nulls_last=True), "-created_at", "-pk")

    @admin.display(description="invoice", ordering="collection")
    def invoice(self, reversal: Reversal) -> str:
        meta = InvoiceCollection._meta
        url = reverse(
            f"admin:{meta.app_label}_{meta.model_name}_change",
            args=[quote(reversal.collection_id)],
        )
        number = reversal.collection.number or reversal.collection_id
        return format_html('<a href="{}">{}</a>', url, number)

    @admin.display(description="amount", ordering="amount_cents")
    def amount(self, reversal: Reversal) -> str:
        return format_amount(reversal.amount_cents, reversal.currency)

    @admin.display(description="invoice's dispute debt")
    def debt(self, reversal: Reversal) -> str:
        cents = reversal.collection.dispute_debt_cents
        return format_amount(cents, reversal.currency) if cents else "–"

    @admin.action(
        description="Write off the dispute debt of the invoice", permissions=["operate"]
    )
    def write_off(self, request: HttpRequest, queryset: ReversalQuerySet) -> None:
        ids = sorted(set(queryset.values_list("collection_id", flat=True)))
        self.message_user(request, write_off_dispute_debts(ids))


class ReversalInline(admin.TabularInline[Reversal, InvoiceCollection]):
    """Reversals on the page of an invoice collection."""

    model = Reversal
    fields = (
        "stripe_id",
        "kind",
        "state",
        "amount_cents",
        "reason",
        "credit_note_id",
        "evidence_due_at",
        "repaid_cents",
        "written_off_cents",
        "created_at",
    )
    readonly_fields = fields
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
