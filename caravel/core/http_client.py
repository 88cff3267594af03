"""Asking others over HTTP: until a deadline, up to a size, and nobody else."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import requests
import urllib3

from caravel.core.db.transactions import release_connection

_HEADERS = {"Accept": "application/json", "User-Agent": "caravel"}
Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class RequestFailed(Exception):
    """Nothing came, or nothing that is read to its end; the reason is in words."""


class RequestTimeout(RequestFailed):
    """It did not come in time, or not to its end."""


class ResponseTooLarge(RequestFailed):
    """There was more of it than is read."""


@dataclass(frozen=True)
class Response:
    """What was answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def get(
    url: str, *, timeout: float, max_bytes: int, sign: Sign | None = None
) -> Response:
    """Return the answer to a GET of at most `max_bytes` bytes within `timeout` seconds.

    Redirects are not followed, and no `.netrc` is read. Raises NoAnswer. Not inside a
    transaction.
    """
    release_connection()
    deadline = time.monotonic() + timeout
    try:
        with (
            requests.Session() as session,
            session.get(
                url,
                auth=sign or _unsigned,
                headers=_HEADERS,
                timeout=timeout,
                stream=True,
                allow_redirects=False,
            ) as answer,
        ):
            body = _body(answer, deadline, max_bytes)
            return Response(answer.status_code, answer.headers, body)
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as exc:
        raise RequestTimeout("it did not answer in time") from exc
    except (requests.RequestException, urllib3.exceptions.HTTPError) as exc:
        raise RequestFailed("the connection failed") from exc


def _body(answer: requests.Response, deadline: float, max_bytes: int) -> bytes:
    body = b""
    # Not iter_content: it waits for a whole chunk, however slowly the bytes come.
    while part := answer.raw.read1(max_bytes, decode_content=True):
        body += part
        if len(body) > max_bytes:
            raise ResponseTooLarge("its answer is too large")
        if time.monotonic() > deadline:
            raise RequestTimeout("it did not answer in time")
    return body


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
