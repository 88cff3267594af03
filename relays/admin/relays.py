"""Admin pages of relays."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import models
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html

from caravel.core.admin import ServiceAdmin, counted, mask_links
from caravel.core.exceptions import CaravelError
from relays.admin.forms import RelayForm
from relays.models import Relay, RelaySync
from relays.services import lifecycle, members
from relays.services.fields import EDITABLE
from relays.services.provisioning.configuration import public_host
from relays.services.provisioning.queue import sync_again
from tenants.admin import NpubSearchAdmin


class AttentionFilter(admin.SimpleListFilter):
    """Filter of the relays that support may have to look at."""

    title = parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("unsynced", "not in sync with zooid"),
            ("failing", "last sync failed"),
            ("never_served", "never seen running"),
            ("unreached", "not reached by the last look"),
            ("over_limit", "over its plan's limit"),
            ("to_be_deleted", "to be deleted"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Relay]
    ) -> QuerySet[Relay]:
        existing = queryset.filter(deleted_at=None)
        relays = {
            # Also deleted ones: zooid may not know yet.
            "unsynced": queryset.filter(synced=False, sync__isnull=False),
            "failing": queryset.filter(sync__failures__gt=0),
            "never_served": existing.filter(
                status=Relay.Status.ACTIVE, first_served_at=None
            ),
            "unreached": existing.filter(sync__probe_failures__gt=0),
            "over_limit": existing.exclude(over_limit_since=None),
            "to_be_deleted": existing.filter(
                status=Relay.Status.DELINQUENT, deletion_at__isnull=False
            ),
        }
        return relays.get(self.value() or "", queryset)


@admin.register(Relay)
class RelayAdmin(NpubSearchAdmin, ServiceAdmin):
    form = RelayForm
    list_display = (
        "subdomain",
        "tenant",
        "plan",
        "state",
        "synced",
        "seen",
        "deletion_at",
        "created_at",
    )
    list_filter = (
        AttentionFilter,
        "status",
        "plan",
        ("deleted_at", admin.EmptyFieldListFilter),
    )
    search_fields = (
        "subdomain__icontains",
        "name__icontains",
        "tenant__pubkey__startswith",
        "tenant__display_name__icontains",
    )
    list_prefetch_related = ("tenant", "plan", "sync")
    autocomplete_fields = ("tenant",)
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}
    readonly_fields = (
        "address",
        "state",
        "seen",
        "synced",
        "sync_state",
        "last_error",
        "sync_error",
        "billed",
        "first_served_at",
        "served_at",
        "dark_at",
        "people",
        "people_counted_at",
        "over_limit_since",
        "delinquent_since",
        "export_offer_at",
        "deletion_at",
        "created_at",
        "deleted_at",
        "id",
        "schema",
        "more",
    )
    # Only billing makes relays delinquent and active again: its next review would undo
    # what a person did. Extending the grace period or an exemption switches them on.
    actions = ("activate", "deactivate", "sync_again")

    def get_fields(
        self, request: HttpRequest, obj: Relay | None = None
    ) -> tuple[str, ...]:
        # What support looks for comes first, not below three long texts.
        read_only = self.readonly_fields if obj else ()
        return ("tenant", *read_only, "plan", *EDITABLE)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Relay | None = None
    ) -> tuple[str, ...]:
        return (*self.readonly_fields, "tenant") if obj else self.readonly_fields

    def has_delete_permission(
        self, request: HttpRequest, obj: Relay | None = None
    ) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: Relay | None = None
    ) -> bool:
        is_deleted = obj is not None and obj.deleted_at is not None
        return not is_deleted and bool(super().has_change_permission(request, obj))

    def before_saving(self, request: HttpRequest, object_id: str | None) -> None:
        """Count the members, if a change of plan depends on them."""
        plan_id = request.POST.get("plan")
        if object_id and plan_id and self.has_change_permission(request):
            relay = self.get_object(request, unquote(object_id))
            if relay is not None:
                members.count_for_plan(relay_id=relay.pk, plan_id=plan_id)

    def save_model(
        self, request: HttpRequest, obj: Relay, form: ModelForm[Relay], change: bool
    ) -> None:
        editable = form.cleaned_data.keys() & EDITABLE
        fields = {name: form.cleaned_data[name] for name in editable}
        if change:
            changed = {name: fields[name] for name in editable & {*form.changed_data}}
            _update(obj, changed)
            return
        created = lifecycle.create_relay(
            tenant_id=obj.tenant_id, plan_id=obj.plan_id, ignore_quotas=True, **fields
        )
        # The service has inserted the row, so the admin must not insert it again.
        obj.pk, obj._state.adding = created.pk, False

    @admin.display(description="address")
    def address(self, relay: Relay) -> str:
        host, secure = public_host(relay), settings.APP_URL.startswith("https:")
        return format_html(
            '<a href="{}://{}/">{}://{}</a>',
            *("https" if secure else "http", host, "wss" if secure else "ws", host),
        )

    @admin.display(description="status", ordering="status")
    def state(self, relay: Relay) -> str:
        return "deleted" if relay.deleted_at else relay.get_status_display()

    @admin.display(description="seen from outside", ordering="served_at")
    def seen(self, relay: Relay) -> str:
        """Return the result of the last look at the relay."""
        sync: RelaySync | None = getattr(relay, "sync", None)
        times = [
            (at, text)
            for at, text in ((relay.served_at, "running"), (relay.dark_at, "off"))
            if at
        ]
        at, text = max(times, default=(None, ""))
        known = f"{text} {_when(at)}" if at else "never"
        if sync is None or not sync.probe_failures:
            return known
        looks = counted(sync.probe_failures, "look")
        return f"not reached by the last {looks}; before that: {known}"

    @admin.display(description="more about it")
    def more(self, relay: Relay) -> str:
        return format_html(
            '<a href="{}?q={}">activities</a>, <a href="{}?relay__id__exact={}">'
            "exports</a>",
            *(reverse("admin:tenants_activity_changelist"), relay.pk),
            *(reverse("admin:relays_relayexport_changelist"), relay.pk),
        )

    @admin.display(description="billed")
    def billed(self, relay: Relay) -> str:
        reason = relay.unbilled_reason
        return f"no: {Relay.Unbilled(reason).label}" if reason else "yes"

    @admin.display(description="sync with zooid")
    def sync_state(self, relay: Relay) -> str:
        sync: RelaySync | None = getattr(relay, "sync", None)
        if sync is None:
            return "not begun"
        acknowledged = f"acknowledged {_when(sync.acknowledged_at)}"
        if not sync.is_stale:
            return f"in sync, {acknowledged}"
        tries = f"{counted(sync.failures, 'attempt')} failed, " if sync.failures else ""
        return f"{tries}next attempt {_when(sync.next_attempt_at)}, {acknowledged}"

    @admin.display(description="last error, for the operator")
    def last_error(self, relay: Relay) -> str:
        sync: RelaySync | None = getattr(relay, "sync", None)
        if sync is None or not sync.last_error:
            return "–"
        return f"{sync.last_error_code}: {mask_links(sync.last_error)}"

    @admin.action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[Relay]) -> None:
        self._apply_to_each(request, queryset, lifecycle.activate_relay)

    @admin.action(description="Deactivate", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[Relay]) -> None:
        self._apply_to_each(request, queryset, lifecycle.deactivate_relay)

    @admin.action(description="Sync again", permissions=["change"])
    def sync_again(self, request: HttpRequest, queryset: QuerySet[Relay]) -> None:
        """Look at once for differences; zooid is sent nothing if there are none."""
        relay_ids = list(queryset.values_list("pk", flat=True))
        sync_again(relay_ids)
        self.message_user(request, f"Queued {counted(len(relay_ids), 'relay')}.")

    def _apply_to_each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Relay],
        service: Callable[..., Relay],
    ) -> None:
        changed = 0
        for relay in queryset.order_by("pk"):
            try:
                service(relay_id=relay.pk)
            except CaravelError as exc:
                self.message_user(request, f"{relay}: {exc}", messages.ERROR)
            else:
                changed += 1
        if changed:
            self.message_user(request, f"Changed {counted(changed, 'relay')}.")


def _when(time: datetime | None) -> str:
    """Return a time as the other fields of the page show it."""
    return formats.localize(timezone.localtime(time)) if time else "never"


def _update(relay: Relay, fields: dict[str, Any]) -> None:
    relay_id: UUID = relay.pk
    # The plan first, since it decides which switches are allowed.
    lifecycle.change_plan(relay_id=relay_id, plan_id=relay.plan_id, ignore_quotas=True)
    if fields:
        lifecycle.update_relay(relay_id=relay_id, **fields)
