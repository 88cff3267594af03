"""Tasks of the event loop whose result no other task awaits."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import structlog
from websockets.exceptions import ConnectionClosed

from caravel.core.exceptions import CaravelError
from caravel.nostr.relays.dial import RelayUnreachable

logger = structlog.get_logger(__name__)

T = TypeVar("T")


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


def run_each(
    functions: Sequence[Callable[[], Coroutine[Any, Any, T]]],
    loop: asyncio.AbstractEventLoop,
    timeout: float,
    late: CaravelError,
) -> Iterator[list[tuple[int, T | CaravelError]]]:
    """Run functions at once in another thread's loop; yield results as they arrive.

    Each group has all results since the previous one, with their positions. After the
    timeout the result of the others is `late`, as it is of one that fails unexpectedly.
    """
    ended: SimpleQueue[tuple[int, asyncio.Task[T]]] = SimpleQueue()
    running = asyncio.run_coroutine_threadsafe(_run_all(functions, ended), loop)
    deadline, missing = time.monotonic() + timeout, {*range(len(functions))}
    try:
        while missing:
            group = _drain(ended, deadline) or [(i, None) for i in missing]
            missing.difference_update(i for i, _ in group)
            yield [(i, _result_of(task, late)) for i, task in group]
    finally:
        running.cancel()  # without effect if it is done


def _result_of(task: asyncio.Task[T] | None, late: CaravelError) -> T | CaravelError:
    """Return a task's result, its CaravelError, or `late`."""
    if task is None or task.cancelled():  # the loop is stopping
        return late
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, CaravelError):
        return error
    # One relay that causes it must not end the exchanges with all others.
    logger.error("relay_task_failed", exc_info=error)
    return late


async def _run_all(
    functions: Sequence[Callable[[], Coroutine[Any, Any, T]]],
    ended: SimpleQueue[tuple[int, asyncio.Task[T]]],
) -> None:
    tasks = [asyncio.create_task(function()) for function in functions]
    try:
        for i, task in enumerate(tasks):
            task.add_done_callback(partial(_put, ended, i))
        await asyncio.wait(tasks)
    finally:
        await cancel([task for task in tasks if not task.done()])


def _put(
    ended: SimpleQueue[tuple[int, asyncio.Task[T]]], i: int, task: asyncio.Task[T]
) -> None:
    ended.put((i, task))


def _drain(
    ended: SimpleQueue[tuple[int, asyncio.Task[T]]], deadline: float
) -> list[tuple[int, asyncio.Task[T] | None]]:
    """Wait for the first task to end; return all that have, none at the deadline."""
    group: list[tuple[int, asyncio.Task[T] | None]] = []
    with suppress(Empty):
        group.append(ended.get(timeout=max(0.0, deadline - time.monotonic())))
        while True:
            group.append(ended.get_nowait())
    return group
