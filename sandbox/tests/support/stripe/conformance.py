"""Checks of the sandbox's requests and responses against stripe-python's types."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest

from sandbox.common.http import Request, Response, Steps
from sandbox.stripe.api import form_encoding
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.tests.support.stripe import types


class ConformanceChecker:
    """Collector of problems in successful API requests and their responses."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self.checked = 0

    def check(self, request: Request, response: Response) -> None:
        """Check one request and its response."""
        if not request.path.startswith("/v1/"):
            return
        if response.status == 402:
            self._check_error(request, json.loads(response.body)["error"])
        if response.status != 200:
            return
        operation = types.operation(request.method, request.path)
        if operation is None:
            self._record(request, ["the SDK has no such endpoint"])
            return
        self.checked += 1
        form = form_encoding.decode(
            "&".join(filter(None, (request.query, request.body.decode())))
        )
        self._record(request, types.unknown_parameters(operation.params, form))
        content = json.loads(response.body)
        self._record(request, types.response_problems(operation.returns, content))
        for event in _events_in(content):
            self._record(request, types.event_problems(event))

    def _check_error(self, request: Request, error: dict[str, Any]) -> None:
        for name in ("payment_intent", "payment_method"):
            if isinstance(record := error.get(name), dict):
                cls = types.resources()[name]
                self._record(request, types.response_problems(cls, record))

    def pop_problems(self) -> list[str]:
        """Return the problems and clear the list."""
        problems, self._problems = self._problems, []
        return problems

    def _record(self, request: Request, problems: list[str]) -> None:
        self._problems += [
            f"{request.method} {request.path}: {problem}" for problem in problems
        ]


def stored_problems(app: StripeApp) -> list[str]:
    """Return the problems of all objects and events of an account, as it sends them."""
    rendered = [
        (cls, REGISTRY.render(app.store, record))
        for name, cls in types.resources().items()
        for record in app.store.scan(name)
    ]
    problems = [types.response_problems(cls, content) for cls, content in rendered]
    events = [content for _, content in rendered if content["object"] == "event"]
    return list(chain(*problems, *map(types.event_problems, events)))


def _events_in(content: dict[str, Any]) -> list[dict[str, Any]]:
    candidates = content["data"] if content.get("object") == "list" else [content]
    return [record for record in candidates if record.get("object") == "event"]


@contextmanager
def check_conformance(app: StripeApp) -> Iterator[ConformanceChecker]:
    """Check all requests that the app handles during the block."""
    checker, respond = ConformanceChecker(), app.respond

    def respond_and_check(request: Request) -> Steps:
        response = yield from respond(request)
        checker.check(request, response)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "respond", respond_and_check)
        yield checker
