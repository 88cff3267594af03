"""HTTP requests with a total deadline and a size limit; no redirects, no .netrc."""

import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Literal

import requests
import urllib3
from requests.adapters import HTTPAdapter

from caravel.core.db.transactions import release_connection

_HEADERS = {"Accept": "application/json", "User-Agent": "caravel"}
_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError)
# Not every ValueError: a response with invalid headers raises one, too.
_INVALID = (
    requests.exceptions.InvalidURL,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)
Method = Literal["GET", "POST", "PATCH", "DELETE"]
Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class RequestFailed(Exception):
    """No complete response was received; the message gives the reason."""


class NotConnected(RequestFailed):
    """No connection was made: the server has not received the request."""


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


def send(
    method: Method,
    url: str,
    *,
    timeout: float,
    max_bytes: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    sign: Sign | None = None,
    session: requests.Session | None = None,
) -> Response:
    """Return the response, of at most `max_bytes` within `timeout` seconds.

    `sign` may add headers to the prepared request. With a `session` of `new_session`, a
    connection is used again; without one it is closed. Raises RequestFailed. Do not
    call inside a transaction.
    """
    release_connection()
    deadline = time.monotonic() + timeout
    try:
        with (
            nullcontext(session) if session else new_session(1) as opened,
            opened.request(
                method,
                url,
                data=body or None,
                # With any `auth`, requests does not look for credentials in .netrc.
                auth=sign or (lambda request: request),
                headers={**_HEADERS, **(headers or {})},
                timeout=timeout,
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            content = _read_body(response, deadline, max_bytes)
            return Response(response.status_code, response.headers, content)
    # UnicodeError: a header that HTTP cannot send, as a Host that is not ASCII.
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as e:
        raise _failure(e) from e


#: Send a GET.
get = partial(send, "GET")


def new_session(connections: int) -> requests.Session:
    """Return a session for as many threads: it keeps connections, but no cookies."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = HTTPAdapter(pool_connections=connections, pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _failure(exc: Exception) -> RequestFailed:
    # requests wraps the MaxRetryError of urllib3, which has the cause as its reason.
    cause = getattr(exc.args[0], "reason", exc) if exc.args else exc
    if isinstance(exc, requests.ConnectTimeout):
        return NotConnected("no connection was made in time")
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return NotConnected("no connection was made")
    if isinstance(cause, urllib3.exceptions.SSLError) and _is_untrusted(cause):
        return NotConnected("its TLS certificate is not valid")
    if isinstance(cause, _INVALID):
        return NotConnected("its address is not valid")
    if isinstance(cause, _TIMEOUTS):
        return RequestTimeout("it did not answer in time")
    return RequestFailed("the connection failed")


def _is_untrusted(error: Exception) -> bool:
    return any(isinstance(arg, ssl.SSLCertVerificationError) for arg in error.args)


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
