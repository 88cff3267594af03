"""Tasks of the event loop whose result nobody awaits."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from websockets.exceptions import ConnectionClosed

from caravel.nostr.relays.dial import RelayUnreachable


class ConnectionLost(Exception):
    """The connection was lost after sending: the message may have arrived."""


# asyncio keeps only weak references to tasks.
# https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task
_tasks: set[asyncio.Task[None]] = set()


def in_background(coroutine: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
    """Run a coroutine as a task; the loss of a connection ends it silently."""

    async def run() -> None:
        with suppress(RelayUnreachable, ConnectionLost, ConnectionClosed):
            await coroutine

    task = asyncio.create_task(run())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    # A task that is cancelled before it starts never runs its coroutine.
    task.add_done_callback(lambda _: coroutine.close())
    return task


async def cancel(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
