"""Lists of the admin whose cost does not grow with their table.

They count no further than `COUNTED` rows, find the values of a filter in an index, and
search each column by itself: one index answers no OR over several tables.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.text import smart_split, unescape_string_literal
from psycopg import sql
from unfold.admin import ModelAdmin

#: Rows of a list that are counted, paged and selected for an action, and finds of a
#: search in each column. A filter or a longer word finds the others.
COUNTED = 1_000
#: A word that is too short for an index of trigrams has to be the start of a text.
_TRIGRAM = 3
#: https://wiki.postgresql.org/wiki/Loose_indexscan
_VALUES = """
WITH RECURSIVE value(it) AS (
    (SELECT {column} FROM {table} WHERE {column} <> '' ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (
        SELECT {column} FROM {table}
        WHERE {column} <> '' AND {column} > value.it ORDER BY {column} LIMIT 1
    ) FROM value WHERE value.it IS NOT NULL
) SELECT it FROM value WHERE it IS NOT NULL
"""


class AtLeast(int):
    """Number of rows that were counted, though there are more."""

    def __str__(self) -> str:
        return f"{int(self)} or more"


class LimitedPaginator(Paginator[Any]):
    """Paginator of the first rows of a list."""

    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        rows = self.object_list.order_by().values("pk")[: COUNTED + 1].count()
        return AtLeast(COUNTED) if rows > COUNTED else int(rows)


class StoredValuesFilter(admin.AllValuesFieldListFilter):
    """Filter by the values of a text column, stepping through its index."""

    def __init__(self, field: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(field, *args, **kwargs)
        self.lookup_choices: Any = _stored_values(field)


admin.FieldListFilter.register(
    lambda field: isinstance(field, models.CharField) and not field.choices,
    StoredValuesFilter,
    take_priority=True,
)


class TimeFilter(admin.DateFieldListFilter):
    """Filter by time, also by each month of the last year."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.links = (*self.links, *map(self._month, range(1, 13)))

    def _month(self, ago: int) -> tuple[str, dict[str, Any]]:
        start, end = _start_of_month(ago), _start_of_month(ago - 1)
        bounds = {
            self.lookup_kwarg_since: str(start),
            self.lookup_kwarg_until: str(end),
        }
        return f"{start:%B %Y}", bounds


class ListAdmin(ModelAdmin):
    """Admin page of a table that grows.

    `search_fields` name a lookup, such as `id__startswith`, that an index supports.
    """

    #: Relations that the list shows. A join might be made before rows are chosen.
    list_prefetch_related: tuple[str, ...] = ()

    paginator = LimitedPaginator
    show_full_result_count = False
    # Each facet counts the whole table.
    show_facets = admin.ShowFacets.NEVER
    # Not False, with which Django joins whatever the list shows.
    list_select_related = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.prefetch_related(*self.list_prefetch_related)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponseBase | None:
        """Run an action for "all" on the rows that are counted, and say if more are.

        It runs within a request, and each row takes it milliseconds.
        """
        if request.POST.get("select_across") == "1":
            keys = list(queryset.values_list("pk", flat=True)[: COUNTED + 1])
            queryset = queryset.filter(pk__in=keys[:COUNTED])
            if len(keys) > COUNTED:
                text = f"Only the first {COUNTED} rows were selected; there are more."
                messages.warning(request, text)
        response: HttpResponseBase | None = super().response_action(request, queryset)
        return response

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find rows that have all words: in one column, or the longest one in any.

        Of the longest word only so many rows are looked at as one column may find.
        """
        lookups, words = self.get_search_fields(request), _words(search_term)
        if not lookups or not words:
            return queryset, False
        # Filtered already: a limit before the filters would hide rows that they show.
        rows = queryset.order_by()
        found = [_found(rows, lookup, words) for lookup in lookups]
        if len(words) > 1:
            found.append(_found_in_several(rows, lookups, words))
        results: QuerySet[Any] = queryset.filter(pk__in=_union(found))
        return results, False


def _words(text: str) -> list[str]:
    """Return the words of a search; those in quotes are one."""
    return [word for word in map(_unquoted, smart_split(text)) if word]


def _unquoted(part: str) -> str:
    is_quoted = part[0] in "\"'" and part[0] == part[-1]
    return unescape_string_literal(part) if is_quoted else part


def _found(
    rows: QuerySet[Any], lookup: str, words: Sequence[str]
) -> QuerySet[Any, Any]:
    for word in words:
        rows = rows.filter(_matches(lookup, word))
    return rows.values("pk")[: COUNTED + 1]


def _found_in_several(
    rows: QuerySet[Any], lookups: Sequence[str], words: Sequence[str]
) -> QuerySet[Any, Any]:
    rarest = max(words, key=len)
    found = rows.filter(
        pk__in=_union([_found(rows, each, [rarest]) for each in lookups])
    )
    for word in words:
        if word != rarest:
            found = found.filter(
                reduce(or_, (_matches(each, word) for each in lookups))
            )
    return found.values("pk")


def _union(parts: Sequence[QuerySet[Any, Any]]) -> QuerySet[Any, Any]:
    first, *others = parts
    return first.union(*others, all=True) if others else first


def _matches(lookup: str, word: str) -> Q:
    if lookup.endswith("__icontains"):
        if len(word) < _TRIGRAM:
            lookup = f"{lookup.removesuffix('__icontains')}__istartswith"
        return Q((lookup, word))
    # Keys and addresses are stored in lower case, numbers of invoices in upper case,
    # and ids of Stripe in both.
    spellings = sorted({word, word.lower(), word.upper()})
    return reduce(or_, (Q((lookup, each)) for each in spellings))


def _start_of_month(ago: int) -> datetime:
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    years, month = divmod(today.month - 1 - ago, 12)
    return today.replace(year=today.year + years, month=month + 1, day=1)


def _stored_values(field: models.Field[Any, Any]) -> list[str]:
    query = sql.SQL(_VALUES).format(
        column=sql.Identifier(str(field.column)),
        table=sql.Identifier(field.model._meta.db_table),
    )
    with connection.cursor() as cursor:
        cursor.execute(query)
        return [value for (value,) in cursor.fetchall()]
