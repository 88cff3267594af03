"""Lists: a page at a time, in an order, with the address of what follows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from api.exceptions import InvalidCursor

LIMIT = 50


class ListParams(serializers.Serializer[Any]):
    """What every list may be asked for; subclasses add filters, and orders."""

    limit = serializers.IntegerField(
        required=False, default=LIMIT, min_value=1, max_value=100
    )
    cursor = serializers.CharField(
        required=False, help_text="Where to go on: `next` of the page before has it."
    )


def ordered_by(*fields: str) -> serializers.ChoiceField:
    """Return the parameter `order`, of which the first choice is the default."""
    choices = [order for field in fields for order in (field, f"-{field}")]
    return serializers.ChoiceField(choices, required=False, default=fields[0])


class _Cursor(CursorPagination):
    def __init__(self, order: str, limit: int, model: type[Model]) -> None:
        self.ordering = (order,)
        self.page_size = limit
        self._field: Any = model._meta.get_field(order.removeprefix("-"))

    def get_page_size(self, request: Request) -> int | None:
        return self.page_size

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> Any:
        return self.ordering

    def decode_cursor(self, request: Request) -> Any:
        """Return the cursor, whose times are ones that the database can take.

        It refuses offsets of more than 16 hours, which Python does not.
        """
        cursor: Any = super().decode_cursor(request)
        if cursor is None or cursor.position is None:
            return cursor
        position = self._field.to_python(cursor.position)
        if isinstance(position, datetime):
            position = position.astimezone(UTC)
        return cursor._replace(position=str(position))

    def page_of(self, queryset: QuerySet[Any], request: Request) -> list[Any]:
        """Return the page that the request's cursor begins. Raises InvalidCursor."""
        try:
            return self.paginate_queryset(queryset, request) or []
        except (drf.NotFound, ValidationError, ValueError, OverflowError) as exc:
            raise InvalidCursor("This cursor leads nowhere.") from exc

    @property
    def next(self) -> str | None:
        return self.get_next_link() if self.has_next else None


def paginate(
    request: Request,
    rows: QuerySet[Any],
    serializer: type[serializers.BaseSerializer[Any]],
    *,
    order: str,
    limit: int,
) -> Response:
    """Return a page of rows in the envelope. Raises InvalidCursor."""
    cursor = _Cursor(order, limit, rows.model)
    page = cursor.page_of(rows, request)
    cursor.base_url = _address(request)
    return answer(serializer(page, many=True).data, cursor.next)


def paginate_after(
    request: Request,
    rows: Sequence[Any],
    serializer: type[serializers.BaseSerializer[Any]],
    *,
    after: str | None,
    limit: int,
) -> Response:
    """Return the page of rows that follow the one of that id. Raises InvalidCursor."""
    ids = [row.id for row in rows]
    if after is not None and after not in ids:
        raise InvalidCursor("This cursor leads nowhere.")
    start = ids.index(after) + 1 if after is not None else 0
    page = rows[start : start + limit]
    is_last = start + limit >= len(rows)
    following = (
        None
        if is_last
        else replace_query_param(_address(request), "cursor", page[-1].id)
    )
    return answer(serializer(page, many=True).data, following)


def answer(data: Any, following: str | None) -> Response:
    """Return a page in the envelope."""
    return Response({"data": data, "code": "ok", "next": following})


def _address(request: Request) -> str:
    """Return what was asked for by the address that callers sign."""
    return settings.APP_URL + request.get_full_path()
