"""Admin pages of plans."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from relays.models import Plan


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    list_display = (
        "name",
        "amount_cents",
        "currency",
        "members",
        "stripe_price_id",
        "price_problem",
    )
    readonly_fields = ("stripe_price_id", "price_problem")

    def get_readonly_fields(
        self, request: HttpRequest, obj: Plan | None = None
    ) -> tuple[str, ...]:
        # Like the amount of a Stripe Price, a plan's terms are immutable: other terms
        # need another plan.
        terms = ("id", "amount_cents", "currency")
        return (*self.readonly_fields, *terms) if obj else self.readonly_fields

    def has_delete_permission(
        self, request: HttpRequest, obj: Plan | None = None
    ) -> bool:
        return False
