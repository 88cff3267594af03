"""HTTP requests to the Stripe sandbox that the SDK would not send."""

import json
import urllib.error
import urllib.request
from email.message import Message
from typing import Any

from caravel.tests.support.waiting import LIMIT
from sandbox.stripe.client.testing import Sandbox


def raw_request(
    sandbox: Sandbox, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, Message, Any]:
    """Send a request and return status, headers and JSON of the response."""
    request = urllib.request.Request(
        sandbox.url + path,
        data=body.encode() if body is not None else None,
        method=method,
        headers={"Authorization": "Bearer sk_test_x", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            return response.status, response.headers, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.load(error)
