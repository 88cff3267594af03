"""The test's calls over standard input and output, for Python: see lines.mjs."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_output = sys.stdout
# Standard output is for these lines only.
sys.stdout = sys.stderr


async def serve(methods: dict[str, Callable[..., Awaitable[Any]]]) -> None:
    """Serve the test's calls by these methods until it closes the input."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        call = json.loads(line)
        result = await methods[call["method"]](**call["params"])
        print(
            json.dumps({"id": call["id"], "result": result}), file=_output, flush=True
        )


def drop_connections(port: int) -> None:
    """Shut down all connections to a port on which this process listens."""
    for file in Path("/dev/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(file.name))) as copy:
            is_ours = copy.family == socket.AF_INET and copy.getsockname()[1] == port
            if is_ours and copy.getpeername():  # the listening socket has none
                copy.shutdown(socket.SHUT_RDWR)
