"""Holds every exchange of the tests with the sandbox against stripe-python's types."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.stripe.app import StripeApp
from sandbox.stripe.protocol import forms
from sandbox.stripe.protocol.http import Request, Response
from sandbox.tests.support import stripe_types


class Conformity:
    """What was found wrong since it was last asked for.

    Parameters are judged when the sandbox accepted them, answers when they are one
    of a resource.
    """

    def __init__(self) -> None:
        self._found: list[str] = []
        self.judged = 0

    def judge(self, request: Request, response: Response) -> None:
        """Look at one exchange."""
        if not request.path.startswith("/v1/") or response.status != 200:
            return
        operation = stripe_types.operation(request.method, request.path)
        if operation is None:
            self._note(request, ["the SDK has no such endpoint"])
            return
        self.judged += 1
        given = forms.decode(
            "&".join(filter(None, (request.query, request.body.decode())))
        )
        self._note(request, stripe_types.unknown_parameters(operation.params, given))
        answer = json.loads(response.body)
        self._note(request, stripe_types.answer_problems(operation.returns, answer))
        for event in _events_in(answer):
            self._note(request, stripe_types.event_problems(event))

    def take(self) -> list[str]:
        """Return what was found, and begin anew."""
        found, self._found = self._found, []
        return found

    def _note(self, request: Request, problems: list[str]) -> None:
        self._found += [
            f"{request.method} {request.path}: {problem}" for problem in problems
        ]


def _events_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    candidates = answer["data"] if answer.get("object") == "list" else [answer]
    return [one for one in candidates if one.get("object") == "event"]


@contextmanager
def watched(app: StripeApp) -> Iterator[Conformity]:
    """Judge all that the app answers within the block."""
    conformity, handle = Conformity(), app.handle

    def handle_and_judge(request: Request) -> Response:
        response = handle(request)
        conformity.judge(request, response)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "handle", handle_and_judge)
        yield conformity
