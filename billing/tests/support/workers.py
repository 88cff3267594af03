"""Simulated Celery workers in one thread, with kills and interleaving.

Enqueued tasks run in this thread, in an order given by a seed. A worker may be killed
before or after each external call and after each commit; at external calls another
worker may run a task.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import stripe
from celery import current_app
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from caravel.core.celery_task import CaravelTask
from caravel.core.wake_up import WakeUp
from caravel.nostr.relays.pool import RelayPool

#: Far more tasks than any action of the tests causes.
_MAX_TASKS = 2_000
#: Maximum depth of workers that interrupt each other.
_MAX_DEPTH = 3


class Killed(BaseException):
    """Stands for SIGKILL; a BaseException, so that no handler catches it."""


@dataclass(frozen=True)
class Message:
    """A queued task, due at a moment of `time.time()`."""

    task: Any
    args: tuple[Any, ...]
    due_at: float


class Workers:
    """All workers, in one thread.

    `interleaving` is the probability that another worker runs at an external call,
    `repeating` that a message is delivered twice.
    """

    def __init__(
        self, seed: int, *, now: Callable[[], float], pass_time: Callable[[], None]
    ) -> None:
        self.random = Random(seed)
        self.interleaving = 0.0
        self.repeating = 0.0
        self.kills = 0
        self._now = now
        self._pass_time = pass_time
        self._messages: list[Message] = []
        self._interruptions: list[tuple[int, Callable[[], object]]] = []
        self._depth = 0
        self._kill_in: int | None = None

    # --- control by tests

    def kill_after(self, points: int) -> None:
        """Kill the worker that reaches the given number of kill points from now on."""
        self._kill_in = points

    def interrupt_with(self, action: Callable[[], object], *, after: int = 0) -> None:
        """Run an action at one of the next external calls, after skipping `after`."""
        self._interruptions.append((after, action))

    def clear_faults(self) -> None:
        """Cancel pending kills, interruptions, interleaving and repeats."""
        self._kill_in = None
        self._interruptions.clear()
        self.interleaving = self.repeating = 0.0

    @property
    def is_about_to_be_killed(self) -> bool:
        return self._kill_in is not None

    @property
    def next_at(self) -> float | None:
        """Time at which the first message is due, None without one."""
        return min((message.due_at for message in self._messages), default=None)

    def drop_messages(self) -> None:
        """Drop all messages, as a restarted broker without persistence does."""
        self._messages.clear()

    def work(self) -> int:
        """Run due tasks and those that they enqueue; return their number."""
        for done in range(_MAX_TASKS):
            if not self._run_one_task():
                return done
        raise AssertionError("tasks keep enqueuing each other")

    @contextmanager
    def in_process(self) -> Iterator[None]:
        """Run the block as a worker or web process, which may be killed.

        Raises Killed when it was.
        """
        self._depth += 1
        try:
            yield
        except Killed:
            # A killed process loses its connection and its on-commit hooks.
            connection.close()
            raise
        finally:
            self._depth -= 1

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Capture enqueued tasks and intercept external calls within the block."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CaravelTask, "apply_async", self._enqueuing())
            # Its own thread and key would follow the real clock.
            patch.setattr(WakeUp, "request", lambda wake_up: self._wake_up(wake_up))
            patch.setattr(WakeUp, "send", lambda wake_up: self._wake_up(wake_up))
            patch.setattr(WakeUp, "received", lambda wake_up: None)
            for owner, name in (
                (stripe.RequestsClient, "request"),
                (RelayPool, "fetch_each"),
                (RelayPool, "publish"),
            ):
                patch.setattr(owner, name, self._intercepting(getattr(owner, name)))
            request_each = self._intercepting_each(RelayPool.request_each)
            patch.setattr(RelayPool, "request_each", request_each)
            patch.setattr(
                BaseDatabaseWrapper,
                "run_and_clear_commit_hooks",
                self._after_commits(BaseDatabaseWrapper.run_and_clear_commit_hooks),
            )
            yield

    # --- messages

    def _enqueuing(self) -> Callable[..., None]:
        def apply_async(
            task: Any, args: Any = (), kwargs: Any = None, **options: Any
        ) -> None:
            assert not kwargs
            if getattr(task, "queue", "") == "zooid":
                return  # Its worker is away: no relay is served here.
            sent_args = tuple(json.loads(json.dumps(list(args or ()))))
            due_at = self._now() + (options.get("countdown") or 0)
            self._messages.append(Message(task, sent_args, due_at))
            if self.random.random() < self.repeating:
                self._messages.append(Message(task, sent_args, due_at))

        return apply_async

    def _wake_up(self, wake_up: WakeUp) -> bool:
        """Enqueue the task of a wake-up unless a message for it waits."""
        task = current_app.tasks[wake_up.task_name]
        if any(message.task.name == task.name for message in self._messages):
            return False
        task.apply_async()
        return True

    def _take_due_message(self) -> Message | None:
        now = self._now()
        due = [message for message in self._messages if message.due_at <= now]
        if not due:
            return None
        message = self.random.choice(due)
        self._messages.remove(message)
        return message

    def _run_one_task(self) -> bool:
        message = self._take_due_message()
        if message is None:
            return False
        try:
            with self.in_process():
                message.task.run(*message.args)
        except Killed:
            # Half of the time the broker redelivers, otherwise the message is lost too.
            if self.random.random() < 0.5:
                self._messages.append(message)
        return True

    # --- kill points and interruptions

    def _intercepting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._depth:
                return real(*args, **kwargs)
            self._reach_call()
            result = real(*args, **kwargs)
            self._reach_call()
            return result

        return call

    def _intercepting_each(
        self, real: Callable[..., Iterator[Any]]
    ) -> Callable[..., Iterator[Any]]:
        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            if self._depth:
                self._reach_call()
            for replies in real(*args, **kwargs):
                if self._depth:
                    self._reach_call()
                yield replies

        return call

    def _reach_call(self) -> None:
        self._kill_if_due()
        self._pass_time()
        if self._depth >= _MAX_DEPTH or connection.in_atomic_block:
            return
        self._run_interruptions()
        if self.random.random() < self.interleaving:
            self._run_one_task()

    def _run_interruptions(self) -> None:
        due = [action for left, action in self._interruptions if not left]
        self._interruptions = [
            (left - 1, action) for left, action in self._interruptions if left
        ]
        for action in due:
            action()

    def _after_commits(
        self, real: Callable[[BaseDatabaseWrapper], None]
    ) -> Callable[[BaseDatabaseWrapper], None]:
        def run_hooks(wrapper: BaseDatabaseWrapper) -> None:
            if self._depth:
                self._kill_if_due()
            real(wrapper)

        return run_hooks

    def _kill_if_due(self) -> None:
        if self._kill_in is None:
            return
        self._kill_in -= 1
        if self._kill_in < 0:
            self._kill_in = None
            self.kills += 1
            raise Killed
