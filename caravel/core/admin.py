"""What the admin pages of all apps share."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.text import Truncator
from unfold.admin import ModelAdmin

from caravel.core.db.work_items import WorkItem
from caravel.core.exceptions import CaravelError
from caravel.nostr import npub_prefix_to_hex, parse_pubkey


class NpubSearchAdmin(ModelAdmin):
    """A page where an npub, or how one begins, finds what its hex key would."""

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        words = [_as_hex(word) for word in search_term.split()]
        found: tuple[Any, bool] = super().get_search_results(
            request, queryset, " ".join(words)
        )
        return found


def _as_hex(word: str) -> str:
    try:
        return parse_pubkey(word)
    except CaravelError:
        return npub_prefix_to_hex(word) or word


class ReadOnlyAdmin(NpubSearchAdmin):
    """Rows that people look at; only the application writes them."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether this person may start our own work on a row."""
        meta = self.model._meta
        return request.user.has_perm(f"{meta.app_label}.change_{meta.model_name}")


class WorkAdmin(ReadOnlyAdmin):
    """Work items: `why` is short enough for a list."""

    @admin.display(description="last error")
    def why(self, item: WorkItem) -> str:
        return Truncator(item.last_error).chars(120)


class ServiceAdmin(NpubSearchAdmin):
    """A page whose changes go through services, and show what these refuse."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            page: HttpResponse = super().changeform_view(
                request, object_id, form_url, extra_context
            )
        except CaravelError as exc:
            messages.error(request, str(exc))
            return HttpResponseRedirect(request.get_full_path())
        return page
