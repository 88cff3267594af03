"""Lists and cursor pagination (docs: API reference, Pagination)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.store.records import Record, Store

DEFAULT_LIMIT = 10
CURSORS = ("starting_after", "ending_before")
Predicate = Callable[[Record], bool]


def page(
    store: Store,
    kind: str,
    url: str,
    params: Mapping[str, Any],
    *,
    filters: Mapping[str, Any] | None = None,
    where: Predicate | None = None,
) -> dict[str, Any]:
    """Return one page of records, newest first. Raises a 400 for an invalid cursor.

    `filters` are values of indexed fields; those that are None do not count.
    """
    for cursor in _cursors(params):
        if store.get(kind, params[cursor]) is None:
            raise missing(kind, params[cursor], param=cursor, status=400)
    backwards = "ending_before" in params
    wanted = [pair for pair in (filters or {}).items() if pair[1] is not None]
    records: Iterable[Record] = store.scan(
        kind,
        index=wanted[0] if wanted else None,
        before=params.get("starting_after"),
        after=params.get("ending_before"),
        created=params.get("created"),
        newest_first=not backwards,
    )
    for name, value in wanted[1:]:
        records = filter(partial(_has, name, value), records)
    if where is not None:
        records = filter(where, records)
    limit = params.get("limit", DEFAULT_LIMIT)
    # One more than the page shows: its presence means `has_more`.
    selected = list(islice(records, limit + 1))
    data = selected[:limit]
    if backwards:
        data.reverse()
    return list_object(data, url, has_more=len(selected) > limit)


def _has(name: str, value: Any, record: Record) -> bool:
    return bool(record[name] == value)


def slice_page(
    items: Sequence[Record], url: str, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one page of a list that is nested in another object."""
    ids = [item["id"] for item in items]
    limit = params.get("limit", DEFAULT_LIMIT)
    for cursor in _cursors(params):
        if params[cursor] not in ids:
            raise missing("item", params[cursor], param=cursor, status=400)
    if "ending_before" in params:
        before = items[: ids.index(params["ending_before"])]
        return list_object(before[-limit:], url, has_more=len(before) > limit)
    start = ids.index(params["starting_after"]) + 1 if "starting_after" in params else 0
    rest = items[start:]
    return list_object(rest[:limit], url, has_more=len(rest) > limit)


def list_object(
    data: Sequence[Any], url: str, *, has_more: bool = False
) -> dict[str, Any]:
    """Return a Stripe list object."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def _cursors(params: Mapping[str, Any]) -> list[str]:
    cursors = [name for name in CURSORS if name in params]
    if len(cursors) > 1:
        raise invalid(
            "Received both starting_after and ending_before parameters. Please pass in "
            "only one."
        )
    return cursors
