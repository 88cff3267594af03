"""Faults of the management API, added by tests or through the control API."""

from dataclasses import dataclass
from typing import Literal, get_args

from sandbox.common.faults import JSON, HttpFault
from sandbox.common.fields import Fields
from sandbox.common.http import Response

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
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
HUGE = 16 * 1024 * 1024


@dataclass(eq=False, kw_only=True)
class ZooidFault(HttpFault):
    """Fault of requests with a method, or of all.

    `after`: the request is processed and only its response is affected.
    """

    KINDS = get_args(Kind)

    when: When = "before"
    method: str | None = None

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        super().update(values)
        self.when = values.choice("when", get_args(When), self.when)
        self.method = values.optional(values.choice, "method", METHODS)

    def apply(self) -> Response | None:
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
