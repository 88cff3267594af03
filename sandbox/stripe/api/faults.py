"""Faults of API requests: errors, delays and broken connections, by method and path."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sandbox.common.faults import Fault
from sandbox.common.fields import BadField, Fields
from sandbox.common.http import Response, json_response
from sandbox.stripe.api.errors import error_body

Kind = Literal["status", "delay", "reset", "timeout"]
When = Literal["before", "after"]
MESSAGES = {
    409: "This object cannot be accessed right now because another API request or "
    "Stripe process is currently accessing it.",
    429: "Request rate limit exceeded.",
}
CODES = {409: "lock_timeout", 429: "rate_limit"}
# Stripe tells its SDKs to retry lock timeouts, but no other limit (stripe-dotnet
# issue 1886).
LOCK_HEADERS = {"Stripe-Should-Retry": "true"}


@dataclass(eq=False, kw_only=True)
class ApiFault(Fault):
    """Fault of the API.

    `path` is a regular expression that is searched in the path; `params` must be equal
    to the top-level parameters of the same names. `before`: the request is not
    executed. `after`: it is executed and stored, including its idempotent response.
    """

    KINDS = get_args(Kind)

    times: int | None = 1
    method: str | None = None
    path: str = ""
    when: When = "before"
    status: int = 500
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        super().update(values)
        self.method = values.optional(values.text, "method")
        self.path = _pattern(values.text("path", self.path))
        self.when = values.choice("when", get_args(When), self.when)
        self.status = values.integer("status", self.status, minimum=400, maximum=599)
        self.error = values.mapping("error", self.error)
        self.headers = _headers(values.mapping("headers", self.headers))
        self.params = values.mapping("params", self.params)

    def matches(self, method: str, path: str, params: Mapping[str, Any]) -> bool:
        """Return whether the fault applies to a request."""
        return (
            self.method in (None, method)
            and re.search(self.path, path) is not None
            and all(params.get(name) == self.params[name] for name in self.params)
        )

    def error_response(self, request_id: str, now: int) -> Response:
        """Return the error response of a `status` fault."""
        fields = {
            "type": "api_error" if self.status >= 500 else "invalid_request_error",
            "code": CODES.get(self.status),
            "message": MESSAGES.get(self.status, "An unknown error occurred."),
            **self.error,
        }
        body = error_body(fields, request_id=request_id, now=now)
        headers = LOCK_HEADERS if fields["code"] == "lock_timeout" else {}
        return json_response(self.status, body, {**headers, **self.headers})


def _pattern(path: str) -> str:
    try:
        re.compile(path)
    except re.error as error:
        raise BadField(f"path must be a regular expression: {error}") from None
    return path


def _headers(headers: dict[str, Any]) -> dict[str, str]:
    for text in (*headers, *headers.values()):
        if not (isinstance(text, str) and text.isprintable() and text.isascii()):
            raise BadField("headers must be ASCII texts")
    return headers
