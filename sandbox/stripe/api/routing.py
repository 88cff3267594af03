"""Declarations of object types: routes, indexes, rendering and timer."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import Kind, Shape, listing
from sandbox.stripe.store.records import Record, Store

Params = Mapping[str, Any]
Handler = Callable[..., Record]
Renderer = Callable[[Store, Record], dict[str, Any]]


def public(store: Store, record: Record) -> dict[str, Any]:
    """Return the record without its private fields, which start with `_`."""
    return {key: value for key, value in record.items() if key[0] != "_"}


@dataclass(frozen=True, slots=True)
class Route:
    """Endpoint; `handler(context, params, *ids)` returns the object to respond with."""

    method: str
    segments: tuple[str, ...]
    shape: Shape
    handler: Handler

    def match(self, segments: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the ids in the URL, or None if it does not match."""
        ids = []
        for expected, segment in zip(self.segments, segments, strict=True):
            if expected == "{}":
                ids.append(segment)
            elif expected != segment:
                return None
        return tuple(ids)


@dataclass(frozen=True, slots=True)
class Timer:
    """Timed action on a record: `run` is called at the time that `due_at` returns."""

    due_at: Callable[[Record], int | None]
    run: Callable[[Context, Record], None]


@dataclass(slots=True)
class Resource:
    """Object type; its `includable` fields are only present when expanded."""

    name: str
    indexes: tuple[str, ...] = ()
    render: Renderer = public
    includable: Mapping[str, Callable[[Store, Record], Any]] = field(
        default_factory=dict
    )
    timer: Timer | None = None
    routes: list[Route] = field(default_factory=list)

    def get(self, path: str, shape: Shape) -> Callable[[Handler], Handler]:
        """Declare a GET endpoint."""
        return self._route("GET", path, shape)

    def post(self, path: str, shape: Shape) -> Callable[[Handler], Handler]:
        """Declare a POST endpoint."""
        return self._route("POST", path, shape)

    def delete(self, path: str, shape: Shape) -> Callable[[Handler], Handler]:
        """Declare a DELETE endpoint."""
        return self._route("DELETE", path, shape)

    def retrievable(self, url: str) -> None:
        """Declare the endpoint that returns one object by its id, or a 404."""

        @self.get(f"{url}/{{id}}", Shape())
        def retrieve(context: Context, params: Params, id: str) -> Record:
            return context.get(self.name, id)

    def listable(self, url: str, **filters: Kind) -> None:
        """Declare the endpoint that lists objects; the filters are indexed fields."""

        @self.get(url, listing(**filters))
        def list_(context: Context, params: Params) -> Record:
            values = {name: params.get(name) for name in filters}
            return page(context.store, self.name, url, params, filters=values)

    def _route(
        self, method: str, path: str, shape: Shape
    ) -> Callable[[Handler], Handler]:
        segments = tuple(re.sub(r"\{\w+\}", "{}", path).strip("/").split("/"))

        def declare(handler: Handler) -> Handler:
            self.routes.append(Route(method, segments, shape, handler))
            return handler

        return declare


class Registry:
    """All object types, by name and by route."""

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        self.by_name = {resource.name: resource for resource in resources}
        # By method, number of segments and the first two, which are never ids: so few
        # routes are compared.
        self._routes: dict[tuple[str, int, tuple[str, ...]], list[Route]] = {}
        for resource in resources:
            for route in resource.routes:
                key = (route.method, len(route.segments), route.segments[:2])
                self._routes.setdefault(key, []).append(route)
        for routes in self._routes.values():
            # A fixed name before an id: `/v1/invoices/create_preview`.
            routes.sort(key=lambda route: route.segments.count("{}"))

    @property
    def indexes(self) -> dict[str, tuple[str, ...]]:
        """Indexed fields of each object type."""
        return {name: resource.indexes for name, resource in self.by_name.items()}

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
        """Return the endpoint of a URL and the ids in it, or None."""
        segments = tuple(path.strip("/").split("/"))
        if path.endswith("/"):
            return None
        for route in self._routes.get((method, len(segments), segments[:2]), ()):
            ids = route.match(segments)
            if ids is not None:
                return route, tuple(map(unquote, ids))
        return None

    def render(self, store: Store, record: Record) -> dict[str, Any]:
        """Return the API representation of a record."""
        if record.get("deleted"):
            return {"id": record["id"], "object": record["object"], "deleted": True}
        if resource := self.by_name.get(record["object"]):
            return resource.render(store, record)
        if record["object"] == "list":
            return {**record, "data": [self.render(store, r) for r in record["data"]]}
        return public(store, record)
