"""JSON client that calls an app in process: faster than the objects of the SDK."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from sandbox.common.http import Request
from sandbox.stripe.app import StripeApp


class ErrorResponse(AssertionError):
    """A request was not contented with 200."""


class Wire:
    """Client of an app's endpoints. Raises ErrorResponse."""

    def __init__(self, app: StripeApp) -> None:
        self._app = app

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._call("GET", path, params)

    def post(self, path: str, **params: Any) -> dict[str, Any]:
        return self._call("POST", path, params)

    def delete(self, path: str, **params: Any) -> dict[str, Any]:
        return self._call("DELETE", path, params)

    def all(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Return every object of a list, newest first."""
        objects: list[dict[str, Any]] = []
        while True:
            after = {"starting_after": objects[-1]["id"]} if objects else {}
            page = self.get(path, limit=100, **params, **after)
            objects += page["data"]
            if not page["has_more"]:
                return objects

    def _call(
        self, method: str, path: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        form = urlencode(list(_pairs(params)))
        response = self._app.handle(
            Request(
                method,
                f"/v1/{path}",
                "" if method == "POST" else form,
                {"authorization": "Bearer sk_test_sandbox"},
                form.encode() if method == "POST" else b"",
            )
        )
        if response.status != 200:
            raise ErrorResponse(f"{method} {path}: {response.body.decode()}")
        content: dict[str, Any] = json.loads(response.body)
        return content


def _pairs(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _pairs(item, f"{name}[{key}]" if name else key)
    elif isinstance(value, list):
        yield from _pairs(dict(enumerate(value)), name)
    else:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)
