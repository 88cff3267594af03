"""The API as JSON, in process: for where building the SDK's objects costs too much."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from sandbox.stripe.app import StripeApp
from sandbox.stripe.protocol.http import Request


class Refused(AssertionError):
    """An answer that is not 200."""


class Wire:
    """Calls an app's endpoints; raises Refused for an error."""

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
        found: list[dict[str, Any]] = []
        while True:
            after = {"starting_after": found[-1]["id"]} if found else {}
            page = self.get(path, limit=100, **params, **after)
            found += page["data"]
            if not page["has_more"]:
                return found

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
            raise Refused(f"{method} {path}: {response.body.decode()}")
        answer: dict[str, Any] = json.loads(response.body)
        return answer


def _pairs(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _pairs(one, f"{name}[{key}]" if name else key)
    elif isinstance(value, list):
        yield from _pairs(dict(enumerate(value)), name)
    else:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)
