"""Requests to the control API of the Stripe sandbox."""

import json
import urllib.error
import urllib.request
from typing import Any

from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.stripe.client.testing import Sandbox


def control(
    sandbox: Sandbox, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    """Send a control request and return its status and JSON."""
    request = urllib.request.Request(
        f"{sandbox.url}/_sandbox/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_until_fault_used(sandbox: Sandbox) -> None:
    """Wait until a request has used up the only fault."""
    wait_until(lambda: not sandbox.app.faults.list(), "a request that uses the fault")
