"""One API request on its way through the app, with the fault that awaits it."""

from typing import Any

from sandbox.stripe.faults import Fault
from sandbox.stripe.protocol.http import Request, Response
from sandbox.stripe.redaction import redact, redact_text
from sandbox.stripe.resource import Route


class Call:
    """A request, what was read from it, and what is to go wrong."""

    route: Route

    def __init__(self, request: Request, request_id: str) -> None:
        self.request = request
        self.id = request_id
        self.ids: tuple[str, ...] = ()
        self.given: dict[str, Any] = {}
        self.params: dict[str, Any] = {}
        self.key: str | None = None
        self.fault: Fault | None = None

    def before(self, now: int) -> Response | None:
        """Let the fault happen before the work; return what replaces the work."""
        fault = self._fault_when("before")
        if fault is None:
            return None
        if fault.kind == "status":
            return fault.answer(self.id, now)
        return _hold(fault)

    def instead(self, response: Response, now: int) -> Response:
        """Return the error that takes the place of the finished work's answer."""
        fault = self._fault_when("after")
        if fault is None or fault.kind != "status":
            return response
        return fault.answer(self.id, now)

    def after(self, response: Response) -> Response:
        """Let the fault happen after the work."""
        fault = self._fault_when("after")
        if fault is None or fault.kind == "status":
            return response
        return _hold(fault) or response

    def entry(self, response: Response, now: int) -> dict[str, Any]:
        """Return what the request log says: no credentials, no card numbers."""
        return {
            "id": self.id,
            "time": now,
            "method": self.request.method,
            "path": redact_text(self.request.path),
            "params": redact(self.given),
            "idempotency_key": self.key and redact_text(self.key),
            "status": None if response.broken else response.status,
            "replayed": "Idempotent-Replayed" in response.headers,
            "fault": self.fault.id if self.fault else None,
        }

    def _fault_when(self, when: str) -> Fault | None:
        return self.fault if self.fault and self.fault.when == when else None


def _hold(fault: Fault) -> Response | None:
    """Wait out a delay or a timeout; return how the connection then ends, if so."""
    if fault.kind in ("delay", "timeout"):
        fault.wait()
    if fault.kind == "reset":
        return Response(0, broken="reset")
    if fault.kind == "timeout":
        return Response(0, broken="closed")
    return None
