"""Asking others over HTTP: until a deadline, up to a size, and nobody else."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import requests
import urllib3

from caravel.core.db.transactions import leave_database

_HEADERS = {"Accept": "application/json", "User-Agent": "caravel"}
Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class NoAnswer(Exception):
    """Nothing came, or nothing that is read to its end; the reason is in words."""


class NoAnswerInTime(NoAnswer):
    """It did not come in time, or not to its end."""


class AnswerTooLarge(NoAnswer):
    """There was more of it than is read."""


@dataclass(frozen=True)
class Answer:
    """What was answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def get(url: str, *, timeout: float, largest: int, sign: Sign | None = None) -> Answer:
    """Return the answer to a GET of at most `largest` bytes within `timeout` seconds.

    Redirects are not followed, and no `.netrc` is read. Raises NoAnswer. Not inside a
    transaction.
    """
    leave_database()
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
            body = _body(answer, deadline, largest)
            return Answer(answer.status_code, answer.headers, body)
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as exc:
        raise NoAnswerInTime("it did not answer in time") from exc
    except (requests.RequestException, urllib3.exceptions.HTTPError) as exc:
        raise NoAnswer("the connection failed") from exc


def _body(answer: requests.Response, deadline: float, largest: int) -> bytes:
    body = b""
    # Not iter_content: it waits for a whole chunk, however slowly the bytes come.
    while part := answer.raw.read1(largest, decode_content=True):
        body += part
        if len(body) > largest:
            raise AnswerTooLarge("its answer is too large")
        if time.monotonic() > deadline:
            raise NoAnswerInTime("it did not answer in time")
    return body


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
