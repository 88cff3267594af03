"""Calls in both directions over standard input and output, one JSON object per line.

{id, method, params}, and the response {id, result} or {id, error}. As `lines.mjs`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# Standard output is for the lines only, whatever a library prints.
_output = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

Method = Callable[..., Awaitable[Any]]


class WalletError(Exception):
    """A wallet's error; the test gets the code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def tell(method: str, **params: Any) -> None:
    """Call a method of the test without waiting for the response."""
    _write({"id": "", "method": method, "params": params})


def serve(methods: Mapping[str, Method]) -> None:
    """Serve the test's calls by these coroutines until it closes the input."""
    asyncio.run(serve_calls(methods))
    # Threads and connections of libraries must not delay the end.
    os._exit(0)


async def serve_calls(methods: Mapping[str, Method]) -> None:
    """Serve as `serve`, in a running loop; the caller ends the process."""
    reader = asyncio.StreamReader(limit=2**24)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    tasks = set()
    while line := await reader.readline():
        message = json.loads(line)
        if "method" in message:
            tasks.add(asyncio.create_task(_run(methods, message)))


async def _run(methods: Mapping[str, Method], message: dict[str, Any]) -> None:
    try:
        result = await methods[message["method"]](**message["params"])
    except Exception as exc:
        code = getattr(exc, "code", "")
        error = {"type": type(exc).__name__, "message": str(exc), "code": code}
        _write({"id": message["id"], "error": error})
    else:
        _write({"id": message["id"], "result": result})


def _write(message: dict[str, Any]) -> None:
    _output.write(json.dumps(message) + "\n")
    _output.flush()
