"""Requests and responses, whatever carries them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, or (`broken`) the way the connection ends without one."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    broken: Literal["reset", "closed"] | None = None


def json_response(
    status: int, content: Any, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `content` as a JSON response."""
    return Response(
        status,
        dump_json(content).encode(),
        {"Content-Type": "application/json", **(headers or {})},
    )


def dump_json(content: Any) -> str:
    """Return compact JSON."""
    return ENCODER.encode(content)
