"""API request, with its parsed parameters and the fault that applies to it."""

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from sandbox.common.http import Request, Response
from sandbox.stripe.api.faults import ApiFault, When
from sandbox.stripe.api.redaction import redact, redact_text
from sandbox.stripe.api.routing import Route

#: Yields blocking calls; returns the response instead of the work's, or None.
Disruption: TypeAlias = Generator[Callable[[], object], None, Response | None]


class ApiRequest:
    """HTTP request with its route, parameters, idempotency key and fault."""

    route: Route

    def __init__(self, http: Request, request_id: str) -> None:
        self.http = http
        self.id = request_id
        self.ids: tuple[str, ...] = ()
        self.raw_params: dict[str, Any] = {}
        self.params: dict[str, Any] = {}
        self.idempotency_key: str | None = None
        self.fault: ApiFault | None = None

    def is_affected(self, fault: ApiFault) -> bool:
        """Return whether a fault applies to the request."""
        return fault.matches(self.http.method, self.http.path, self.raw_params)

    def disrupt(self, when: When, now: int) -> Disruption:
        """Apply a fault of that moment; return the response that it causes, if any."""
        fault = self.fault
        if fault is None or fault.when != when:
            return None
        if fault.kind == "status":
            # An error after the execution has been stored by then.
            return fault.error_response(self.id, now) if when == "before" else None
        if fault.kind in ("delay", "timeout"):
            yield fault.wait
        if fault.kind == "delay":
            return None
        return Response(0, broken="reset" if fault.kind == "reset" else "closed")

    def replace_response(self, response: Response, now: int) -> Response:
        """Return the error of an `after` fault, else the given response.

        It is stored under the idempotency key like the response it replaces.
        """
        fault = self.fault
        if fault and fault.when == "after" and fault.kind == "status":
            return fault.error_response(self.id, now)
        return response

    def log_entry(self, response: Response, now: int) -> dict[str, Any]:
        """Return the request log entry, without credentials and card numbers."""
        return {
            "id": self.id,
            "time": now,
            "method": self.http.method,
            "path": redact_text(self.http.path),
            "params": redact(self.raw_params),
            "idempotency_key": self.idempotency_key
            and redact_text(self.idempotency_key),
            "status": None if response.broken else response.status,
            "replayed": "Idempotent-Replayed" in response.headers,
            "fault": self.fault.id if self.fault else None,
        }
