"""Admin of tenants, with their unpaid amount and the closing of accounts."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Case, F, Min, OuterRef, QuerySet, Subquery, Sum, When
from django.http import HttpRequest

from billing.models import InvoiceCollection
from billing.models.collections import is_chargeable_q
from billing.money import format_amount
from billing.services.customers.closing import close_tenant, reopen_tenant
from caravel.core.admin import counted
from tenants.admin import TenantAdmin
from tenants.models import Tenant

admin.site.unregister(Tenant)

#: `InvoiceCollection.owed_cents` of unpaid invoices.
_OWED = F("dispute_debt_cents") + Case(
    When(is_chargeable_q(), then="amount_remaining_cents"), default=0
)


@admin.register(Tenant)
class BilledTenantAdmin(TenantAdmin):
    """Tenants with their unpaid amount, and actions to close and reopen accounts."""

    list_display = (*TenantAdmin.list_display, "unpaid")
    readonly_fields = (
        *TenantAdmin.readonly_fields,
        "unpaid",
        "payment_overdue_since",
        "billing_on_hold_since",
        "closed_at",
    )
    actions = ("close", "reopen")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        unpaid = InvoiceCollection.objects.unpaid().filter(tenant=OuterRef("pk"))
        # A tenant is billed in one currency, that of its plans.
        sums = (
            unpaid.order_by()
            .values("tenant")
            .annotate(cents=Sum(_OWED), code=Min("currency"))
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
        self._apply_to_each(request, queryset, close_tenant, "Closed")

    @admin.action(description="Reopen the account", permissions=["change"])
    def reopen(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        self._apply_to_each(request, queryset, reopen_tenant, "Reopened")

    def _apply_to_each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Tenant],
        service: Callable[..., bool],
        verb: str,
    ) -> None:
        done = sum(service(tenant_id=tenant.pk) for tenant in queryset.order_by("pk"))
        self.message_user(request, f"{verb}: {counted(done, 'account')}.")
