"""HTTP requests and responses, independent of the transport."""

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Request:
    """HTTP request; header names are lower case, `client` is an IP address."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Response:
    """HTTP response.

    `broken`: the connection ends without a response (`reset` by RST, `closed` by FIN),
    or in the middle of the body (`truncated`). `wait` is called after each byte of the
    body; the connection ends when it returns True.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    broken: Literal["reset", "closed", "truncated"] | None = None
    wait: Callable[[], bool] | None = None


#: The work on a request; yields calls that may block and seconds to wait, returns the
#: response.
Steps = Generator[Callable[[], object] | float, None, Response]


def run(steps: Steps) -> Response:
    """Make the blocking calls of the work and return the response."""
    try:
        while True:
            step = next(steps)
            time.sleep(step) if isinstance(step, float) else step()
    except StopIteration as end:
        response: Response = end.value
        return response


def in_thread(function: Callable[..., Response], *args: Any) -> Steps:
    """Return the work of a function that may block."""
    responses: list[Response] = []
    yield lambda: responses.append(function(*args))
    return responses[0]


def json_response(
    status: int, content: Any, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with `content` as JSON."""
    return Response(
        status,
        dump_json(content).encode(),
        {"Content-Type": "application/json", **(headers or {})},
    )


def dump_json(content: Any) -> str:
    """Return compact JSON."""
    return ENCODER.encode(content)
