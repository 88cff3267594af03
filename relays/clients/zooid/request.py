"""Signed requests to zooid's management API."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import requests
from django.conf import settings

from caravel.core.http_client import (
    Method,
    NotConnected,
    RequestFailed,
    Response,
    ResponseTooLarge,
    send,
)
from caravel.nostr.http_auth import authorization
from relays.exceptions import ZooidOutcomeUnknown, ZooidRefused, ZooidUnavailable

__all__ = ["Response", "get", "json_or_none", "write"]

#: Seconds for a complete response.
TIMEOUT = 5.0
#: Maximum size of a response: about 60,000 members.
MAX_BYTES = 4 * 1024 * 1024


def get(path: str) -> Response:
    """Return the response to a GET. Raises ZooidUnavailable or ZooidRefused."""
    try:
        return _send("GET", path)
    except ResponseTooLarge as exc:
        raise ZooidRefused("zooid's response is too large.") from exc
    except RequestFailed as exc:
        raise ZooidUnavailable(f"zooid: {exc}.") from exc


def write(
    method: Method, path: str, content: Mapping[str, Any] | None = None
) -> Response:
    """Return the response to a request that writes.

    Raises ZooidUnavailable if zooid was not reached, ZooidOutcomeUnknown if it was, but
    no complete response was received.
    """
    body = b"" if content is None else json.dumps(content).encode()
    # One connection for each: a server may close one that was kept at any time, and
    # then nobody knows whether it has read the request.
    # https://github.com/psf/requests/issues/4664
    try:
        return _send(method, path, body)
    except NotConnected as exc:
        raise ZooidUnavailable(f"zooid: {exc}.") from exc
    except RequestFailed as exc:
        raise ZooidOutcomeUnknown(f"zooid: {exc}.") from exc


def json_or_none(response: Response) -> Any:
    """Return the JSON in a response, None if it is not JSON."""
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def _send(method: Method, path: str, body: bytes = b"") -> Response:
    return send(
        method,
        f"{settings.ZOOID_API_URL}{path}",
        timeout=TIMEOUT,
        max_bytes=MAX_BYTES,
        body=body,
        headers={"Content-Type": "application/json"} if body else None,
        sign=partial(_sign, body),
    )


def _sign(body: bytes, request: requests.PreparedRequest) -> requests.PreparedRequest:
    # The prepared URL is what is sent: requests may have normalized ours.
    request.headers["Authorization"] = authorization(
        settings.ROBOT_SECRET,
        url=str(request.url),
        method=str(request.method),
        body=body,
    )
    return request
