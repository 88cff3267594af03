"""Faults of API and relays, added by tests or through the control API."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from sandbox.common.faults import JSON, HttpFault
from sandbox.common.fields import Fields
from sandbox.common.http import Request, Response

Kind = Literal[
    "reset",  # the connection is reset without a response
    "error",  # `status`, by default 500, with a body like zooid's errors
    "slow",  # the response is sent after `seconds`, or once the faults are cleared
    "drip",  # headers at once, then one byte of the body every `seconds`
    "garbage",
    "html",
    "redirect",  # to another path
    "huge",  # a response of HUGE bytes
    "body",  # `body` as the response, with `status`, by default 200
]
When = Literal["before", "after"]
Place = Literal["api", "relays", "everywhere"]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
HUGE = 16 * 1024 * 1024


@dataclass(eq=False, kw_only=True)
class ZooidFault(HttpFault):
    """Fault of the requests to one place; of all, or with a method, or a path.

    The path is a pattern, as of a shell; a relay's path begins with its host. `after`:
    the request is processed and only its response is affected.
    """

    KINDS = get_args(Kind)

    place: Place = "api"
    when: When = "before"
    method: str | None = None
    path: str | None = None

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        super().update(values)
        self.place = values.choice("place", get_args(Place), self.place)
        self.when = values.choice("when", get_args(When), self.when)
        self.method = values.optional(values.choice, "method", METHODS)
        self.path = values.optional(values.text, "path")

    def matches(self, place: Place, request: Request) -> bool:
        """Return whether the fault is for a request to the API or to a relay."""
        host = "" if place == "api" else request.headers.get("host", "")
        return (
            self.place in (place, "everywhere")
            and self.method in (None, request.method)
            and (self.path is None or fnmatchcase(f"{host}{request.path}", self.path))
        )

    def respond(self, answer: Callable[[], Response]) -> Response:
        """Return the faulty response; `answer` processes the request."""
        if self.when == "before":
            return self._apply() or answer()
        processed = answer()
        return self._apply() or processed

    def _apply(self) -> Response | None:
        """Return the response instead of the correct one; a delay returns None."""
        match self.kind:
            case "slow":
                self.wait()
            case "drip":
                return Response(200, b'{"members":[]}', JSON, wait=self.wait)
            case "redirect":
                return Response(302, headers={"Location": "/elsewhere"})
            case "huge":
                return Response(200, b"[" + b" " * HUGE + b"]", JSON)
        return self.response()
