"""Cursor pagination of lists; each page has the URL of the next one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db.models import Model, QuerySet
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from api.exceptions import InvalidCursor

LIMIT = 50


class ListQuerySerializer(serializers.Serializer[Any]):
    """Query parameters of every list; subclasses add filters and `order`."""

    limit = serializers.IntegerField(
        required=False, default=LIMIT, min_value=1, max_value=100
    )
    cursor = serializers.CharField(
        required=False, help_text="Position in the list, taken from `next`."
    )


def order_field(*fields: str) -> serializers.ChoiceField:
    """Return the `order` parameter: ascending or descending by one of the fields."""
    choices = [order for field in fields for order in (field, f"-{field}")]
    return serializers.ChoiceField(choices, required=False, default=fields[0])


class _Cursor(CursorPagination):
    def __init__(self, order: str, limit: int, model: type[Model]) -> None:
        self.ordering = (order,)
        self.page_size = limit
        self._field: Any = model._meta.get_field(order.removeprefix("-"))

    # Both were validated with the query; DRF would read them from the request again.
    def get_page_size(self, request: Request) -> int | None:
        return self.page_size

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> Any:
        return self.ordering

    def decode_cursor(self, request: Request) -> Any:
        """Return the cursor with its time converted to UTC."""
        # Python accepts UTC offsets below 24 hours, PostgreSQL only below 16: with a
        # larger one in a forged cursor, the query itself would fail.
        cursor: Any = super().decode_cursor(request)
        if cursor is None or cursor.position is None:
            return cursor
        # PostgreSQL's text has no NUL, not even in a comparison.
        ProhibitNullCharactersValidator()(cursor.position)
        position = self._field.to_python(cursor.position)
        if isinstance(position, datetime):
            position = position.astimezone(UTC)
        return cursor._replace(position=str(position))

    def get_page(self, queryset: QuerySet[Any], request: Request) -> list[Any]:
        """Return the page at the request's cursor. Raises InvalidCursor."""
        try:
            return self.paginate_queryset(queryset, request) or []
        # DRF checks only the encoding: a forged position fails later, when it is
        # converted to the field's type or to UTC.
        except (drf.NotFound, ValidationError, ValueError, OverflowError) as exc:
            raise InvalidCursor("The cursor is invalid.") from exc

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
    """Return one page of database rows. Raises InvalidCursor."""
    cursor = _Cursor(order, limit, rows.model)
    page = cursor.get_page(rows, request)
    cursor.base_url = _public_url(request)
    return page_response(serializer(page, many=True).data, cursor.next)


def paginate_after(
    request: Request,
    rows: Sequence[Any],
    serializer: type[serializers.BaseSerializer[Any]],
    *,
    after: str | None,
    limit: int,
) -> Response:
    """Return the page of rows that follows the row with id `after`.

    For lists that do not come from the database. Raises InvalidCursor.
    """
    ids = [row.id for row in rows]
    if after is not None and after not in ids:
        raise InvalidCursor("The cursor is invalid.")
    start = ids.index(after) + 1 if after is not None else 0
    page = rows[start : start + limit]
    next_url = None
    if start + limit < len(rows):
        next_url = replace_query_param(_public_url(request), "cursor", page[-1].id)
    return page_response(serializer(page, many=True).data, next_url)


def page_response(data: Any, next_url: str | None) -> Response:
    """Return a page in the envelope."""
    return Response({"data": data, "code": "ok", "next": next_url})


def _public_url(request: Request) -> str:
    """Return the request's URL under APP_URL."""
    # Callers sign `next` as it is (NIP-98 tag `u`), and signatures are checked against
    # APP_URL. A Host or X-Forwarded-* header must not change it.
    return settings.APP_URL + request.get_full_path()
