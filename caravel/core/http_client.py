"""HTTP GET with a total deadline and a size limit; no redirects, no .netrc."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import requests
import urllib3

from caravel.core.db.transactions import release_connection

_HEADERS = {"Accept": "application/json", "User-Agent": "caravel"}
Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class RequestFailed(Exception):
    """No complete response was received; the message gives the reason."""


class RequestTimeout(RequestFailed):
    """The complete response was not received before the deadline."""


class ResponseTooLarge(RequestFailed):
    """The response is larger than the limit."""


@dataclass(frozen=True)
class Response:
    """A complete HTTP response with any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def get(
    url: str, *, timeout: float, max_bytes: int, sign: Sign | None = None
) -> Response:
    """Return the response to a GET, of at most `max_bytes` within `timeout` seconds.

    `sign` may add headers to the prepared request. Raises RequestFailed. Do not call
    inside a transaction.
    """
    release_connection()
    deadline = time.monotonic() + timeout
    try:
        with (
            requests.Session() as session,
            session.get(
                url,
                # With any `auth`, requests does not look for credentials in .netrc.
                auth=sign or (lambda request: request),
                headers=_HEADERS,
                timeout=timeout,
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            body = _read_body(response, deadline, max_bytes)
            return Response(response.status_code, response.headers, body)
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as exc:
        raise RequestTimeout("it did not answer in time") from exc
    except (requests.RequestException, urllib3.exceptions.HTTPError) as exc:
        raise RequestFailed("the connection failed") from exc


def _read_body(response: requests.Response, deadline: float, max_bytes: int) -> bytes:
    body = b""
    # `timeout` of requests limits each read, not their sum. Not iter_content: it blocks
    # until a whole chunk has arrived, however slowly the server sends it.
    while part := response.raw.read1(max_bytes, decode_content=True):
        body += part
        if len(body) > max_bytes:
            raise ResponseTooLarge("its answer is too large")
        if time.monotonic() > deadline:
            raise RequestTimeout("it did not answer in time")
    return body
