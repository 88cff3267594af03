"""Tasks of the event loop whose result no other task awaits."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from websockets.exceptions import ConnectionClosed

from caravel.nostr.relays.dial import RelayUnreachable

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
) -> Iterator[list[tuple[int, T | BaseException]]]:
    """Run functions at once in another thread's loop; yield results as they arrive.

    Each group has all results since the previous one, with their positions. Raises
    TimeoutError.
    """
    ended: SimpleQueue[tuple[int, asyncio.Task[T]]] = SimpleQueue()
    running = asyncio.run_coroutine_threadsafe(_run_all(functions, ended), loop)
    deadline, missing = time.monotonic() + timeout, len(functions)
    try:
        while missing:
            group = _drain(ended, deadline)
            missing -= len(group)
            if any(task.cancelled() for _, task in group):
                raise TimeoutError  # the loop is stopping
            yield [(i, task.exception() or task.result()) for i, task in group]
    finally:
        running.cancel()  # without effect if it is done


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
) -> list[tuple[int, asyncio.Task[T]]]:
    """Wait for the first result; return all that are there. Raises TimeoutError."""
    try:
        group = [ended.get(timeout=max(0.0, deadline - time.monotonic()))]
        while not ended.empty():
            group.append(ended.get())
    except Empty as exc:
        raise TimeoutError from exc
    return group
