"""Admin pages of users, tenants, activities and notices."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from caravel.core.admin import ReadOnlyAdmin, ServiceAdmin, counted, mask_links
from caravel.core.exceptions import CaravelError
from caravel.nostr import npub_prefix_to_hex, parse_pubkey
from tenants.models import Activity, EmailConfirmation, Notice, Tenant, validate_pubkey
from tenants.services.notices import resend
from tenants.services.tenants import (
    EDITABLE,
    get_or_create_tenant,
    update_tenant,
)

# Registered again below with forms in the style of the unfold admin.
admin.site.unregister(User)
admin.site.unregister(Group)


class SuperuserOnly:
    """Part of the admin page of a model that only superusers can change."""

    # Whoever can change a user or a group can give itself every permission.

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(User)
class UserAdmin(SuperuserOnly, DjangoUserAdmin[User], ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(SuperuserOnly, DjangoGroupAdmin, ModelAdmin):
    pass


class NpubSearchAdmin(ModelAdmin):
    """Admin page that also finds a public key by its npub, or the start of it."""

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        words = [_to_hex(word) for word in search_term.split()]
        results: tuple[Any, bool] = super().get_search_results(
            request, queryset, " ".join(words)
        )
        return results


def _to_hex(word: str) -> str:
    try:
        return parse_pubkey(word)
    except CaravelError:
        return npub_prefix_to_hex(word) or word


class TenantForm(ModelForm[Tenant]):
    def clean_pubkey(self) -> str:
        """Convert an npub to hex."""
        pubkey: str = self.cleaned_data["pubkey"]
        validate_pubkey(pubkey)
        return parse_pubkey(pubkey)


@admin.register(Tenant)
class TenantAdmin(NpubSearchAdmin, ServiceAdmin):
    form = TenantForm
    list_display: tuple[str, ...] = (
        "__str__",
        "npub",
        "relay_count",
        "stripe_customer_id",
        "wallet",
    )
    search_fields = (
        "pubkey__startswith",
        "display_name__icontains",
        "email__icontains",
        "stripe_customer_id__startswith",
        "stripe_subscription_id__startswith",
    )
    list_filter = ("autopay_paused", "dunning_exempt")
    # The model's order does not apply to a query that counts.
    ordering = ("created_at",)
    readonly_fields: tuple[str, ...] = (
        "npub",
        "email_confirmed_at",
        "payment_notices",
        "time_zone",
        "wallet",
        "nwc_error",
        "stripe_customer_id",
        "stripe_subscription_id",
        "past_due_at",
        "created_at",
    )

    def get_fields(
        self, request: HttpRequest, obj: Tenant | None = None
    ) -> tuple[str, ...]:
        editable = (
            "pubkey",
            "display_name",
            "email",
            "autopay_paused",
            "dunning_exempt",
        )
        return (*editable, *self.readonly_fields) if obj else editable

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        # By name: tenants do not import relays, which are an app above. A subquery, so
        # that only the relays of the tenants on the page are counted.
        relays = Tenant.objects.filter(pk=OuterRef("pk"), relays__status="active")
        active = relays.order_by().values("pk").annotate(number=Count("relays"))
        tenants: QuerySet[Tenant] = super().get_queryset(request)
        return tenants.annotate(
            active_relays=Coalesce(Subquery(active.values("number")), 0)
        )

    @admin.display(description="active relays", ordering="active_relays")
    def relay_count(self, tenant: Any) -> int:
        return int(tenant.active_relays)

    @admin.display(description="wallet", boolean=True)
    def wallet(self, tenant: Tenant) -> bool:
        return bool(tenant.nwc_url)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Tenant | None = None
    ) -> tuple[str, ...]:
        return (*self.readonly_fields, "pubkey") if obj else self.readonly_fields

    def has_delete_permission(
        self, request: HttpRequest, obj: Tenant | None = None
    ) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: Tenant, form: ModelForm[Tenant], change: bool
    ) -> None:
        if not change:
            get_or_create_tenant(pubkey=obj.pk)
        changed = {
            name: form.cleaned_data[name]
            for name in EDITABLE
            if name in form.changed_data
        }
        if changed:
            update_tenant(pubkey=obj.pk, **changed)
        # The service has inserted the row, so the admin must not insert it again.
        obj._state.adding = False


@admin.register(Activity)
class ActivityAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = ("created_at", "type", "tenant", "subject", "snapshot")
    list_filter = ("type",)
    search_fields = ("tenant__pubkey__startswith", "subject_id__exact")
    list_prefetch_related = ("tenant",)

    @admin.display(ordering="subject_id")
    def subject(self, activity: Activity) -> str:
        return f"{activity.subject_type} {activity.subject_id}"


@admin.register(EmailConfirmation)
class EmailConfirmationAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "address",
        "state",
        "tenant",
        "asked_at",
        "sent_at",
        "next_attempt_at",
        "last_error",
    )
    fields = (*list_display, "mailbox", "message_id", "failures")
    readonly_fields = fields
    list_filter = ("state", "last_error_code")
    search_fields = (
        "address__startswith",
        "mailbox__startswith",
        "tenant__pubkey__startswith",
    )
    list_prefetch_related = ("tenant",)


@admin.register(Notice)
class NoticeAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "title",
        "kind",
        "state",
        "tenant",
        "created_at",
        "sent_at",
        "note",
        "last_error",
    )
    fields = (
        *list_display,
        "subject",
        "text_without_links",
        "event_id",
        "relays",
        "dm_sent_at",
        "message_id",
        "email_sent_at",
        "dropped_at",
        "failures",
        "next_attempt_at",
        "give_up_at",
    )
    readonly_fields = fields
    list_filter = ("state", "kind", "last_error_code")
    search_fields = (
        "subject__startswith",
        "tenant__pubkey__startswith",
        "message_id__exact",
    )
    list_prefetch_related = ("tenant",)
    actions = ("send_again",)

    @admin.display(description="text")
    def text_without_links(self, notice: Notice) -> str:
        # A payment link is as good as the tenant's own login to the payment page.
        return mask_links(notice.text)

    @admin.action(description="Send again", permissions=["operate"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Notice]) -> None:
        """Resend the failed notices of the selection; skip the others."""
        keys = list(queryset.values_list("pk", flat=True))
        count = sum(resend(notice_id=key) for key in keys)
        self.message_user(request, f"Enqueued {counted(count, 'notice')}.")
