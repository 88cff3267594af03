"""Base classes of the admin pages."""

import re
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.text import Truncator

from caravel.core.admin_lists import ListAdmin
from caravel.core.db.work_items import WorkItem
from caravel.core.exceptions import CaravelError
from caravel.core.redaction import redact

#: The part of a link after its host: in links that we send, it is the credential.
_LINK = re.compile(r"(https?://[^/\s\"]+/)[^\s\"\\]+")


def mask_links(text: str) -> str:
    """Return a text without secrets, and with the links in it shortened to hosts."""
    return redact(_LINK.sub(r"\1…", text))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in "1 relay" and "2 relays"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class ReadOnlyAdmin(ListAdmin):
    """Admin page of rows that only the application writes."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Django allows a filter in the URL by any of the model's own fields. By one
        # that is on no page it would tell what is in it, letter by letter.
        name = lookup.partition("__")[0]
        is_hidden = name in self._hidden_fields(request)
        return not is_hidden and super().lookup_allowed(lookup, value, request)

    def _hidden_fields(self, request: HttpRequest) -> set[str]:
        shown = flatten(
            [
                *self.get_fields(request),
                *self.get_list_display(request),
                *self.get_list_filter(request),
            ]
        )
        names = {str(each).partition("__")[0] for each in shown}
        fields = self.model._meta.fields
        return {each.name for each in fields if not each.primary_key} - names

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may run actions that enqueue work on a row."""
        meta = self.model._meta
        return request.user.has_perm(f"{meta.app_label}.change_{meta.model_name}")


class WorkAdmin(ReadOnlyAdmin):
    """Admin page of work items, with the last error shortened for lists."""

    @admin.display(description="last error")
    def error_summary(self, item: WorkItem) -> str:
        return Truncator(item.last_error).chars(120)


class ServiceAdmin(ListAdmin):
    """Admin page that saves through services and shows their errors as messages."""

    def before_saving(self, request: HttpRequest, object_id: str | None) -> None:
        """Make the network calls that saving needs: Django saves in a transaction."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            if request.method == "POST":
                self.before_saving(request, object_id)
            page: HttpResponse = super().changeform_view(
                request, object_id, form_url, extra_context
            )
        except CaravelError as exc:
            messages.error(request, str(exc))
            return HttpResponseRedirect(request.get_full_path())
        return page
