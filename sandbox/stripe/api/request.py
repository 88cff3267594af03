"""API request, with its parsed parameters and the fault that applies to it."""

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from sandbox.common.http import Request, Response, Steps
from sandbox.stripe.api.faults import Fault
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
        self.fault: Fault | None = None

    def fault_before(self, now: int) -> Disruption:
        """Apply a `before` fault; return the response instead of the work, if any."""
        fault = self._fault_when("before")
        if fault is None:
            return None
        if fault.kind == "status":
            return fault.error_response(self.id, now)
        return (yield from _disrupt(fault))

    def replace_response(self, response: Response, now: int) -> Response:
        """Return the error of an `after` fault, else the given response.

        It is stored under the idempotency key like the response it replaces.
        """
        fault = self._fault_when("after")
        if fault is None or fault.kind != "status":
            return response
        return fault.error_response(self.id, now)

    def fault_after(self, response: Response) -> Steps:
        """Apply an `after` fault that delays or breaks the connection."""
        fault = self._fault_when("after")
        if fault is None or fault.kind == "status":
            return response
        return (yield from _disrupt(fault)) or response

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

    def _fault_when(self, when: str) -> Fault | None:
        return self.fault if self.fault and self.fault.when == when else None


def _disrupt(fault: Fault) -> Disruption:
    """Yield a delay or timeout; return a broken response if the connection ends."""
    if fault.kind in ("delay", "timeout"):
        yield fault.wait
    if fault.kind == "reset":
        return Response(0, broken="reset")
    if fault.kind == "timeout":
        return Response(0, broken="closed")
    return None
