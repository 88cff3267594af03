"""HTTP requests and responses, independent of the transport."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Request:
    """HTTP request; header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """HTTP response. With `broken`, the connection ends without a response instead."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    broken: Literal["reset", "closed"] | None = None


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
