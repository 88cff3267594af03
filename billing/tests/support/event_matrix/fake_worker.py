"""A worker that runs tasks in this process and can be killed at any call or commit."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import stripe
from django.db import connection
from django.db.transaction import Atomic

from billing.tasks import (
    review_dunning,
    sweep_collections,
    sweep_credits,
    sweep_stale_tenants,
    sweep_stripe_events,
)
from billing.tests.support.workers import Killed
from caravel.core.celery_task import CaravelTask

SWEEPS: tuple[Any, ...] = (
    sweep_stripe_events,
    sweep_collections,
    sweep_credits,
    sweep_stale_tenants,
    review_dunning,
)
#: Far more tasks than one event causes.
_MAX_TASKS = 200


class FakeWorker:
    """Runs enqueued billing tasks in order; ignores those of other apps."""

    def __init__(self) -> None:
        self.kill_points = 0
        self._kill_at: int | None = None
        self._messages: deque[tuple[Any, tuple[Any, ...]]] = deque()

    def enqueue(self, task: Any, *args: Any) -> None:
        """Queue a task."""
        if task.name.startswith("billing."):
            self._messages.append((task, args))

    def work(self) -> None:
        """Run all queued tasks, and those that they enqueue."""
        for _ in range(_MAX_TASKS):
            self._publish()
            if not self._messages:
                return
            task, args = self._messages.popleft()
            task.run(*args)
        raise AssertionError("tasks keep enqueuing each other")

    def sweep(self) -> None:
        """Run the periodic tasks, then everything that they enqueue."""
        for task in SWEEPS:
            task.run()
        self.work()

    def kill_at(self, point: int | None) -> None:
        """Start counting kill points; raise Killed at one of them."""
        self.kill_points, self._kill_at = 0, point

    def drop_messages(self) -> None:
        """Drop queued tasks, and those waiting for the commit."""
        self._messages.clear()
        connection.run_on_commit = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Capture enqueued tasks; count Stripe calls and commits as kill points."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CaravelTask, "apply_async", self._enqueuing())
            real = stripe.RequestsClient.request
            patch.setattr(stripe.RequestsClient, "request", self._counting(real))
            patch.setattr(Atomic, "__exit__", self._after_commit(Atomic.__exit__))
            yield

    def _publish(self) -> None:
        hooks, connection.run_on_commit = connection.run_on_commit, []
        for hook in hooks:
            hook[1]()

    def _enqueuing(self) -> Callable[..., None]:
        def apply_async(task: Any, args: Any = (), *rest: Any, **options: Any) -> None:
            self.enqueue(task, *args)

        return apply_async

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def request(*args: Any, **kwargs: Any) -> Any:
            self._reach_kill_point()
            response = real(*args, **kwargs)
            self._reach_kill_point()
            return response

        return request

    def _after_commit(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def leave(block: Any, failed: Any, *exc: Any) -> Any:
            done = real(block, failed, *exc)
            if failed is None and not in_transaction():
                self._reach_kill_point()
            return done

        return leave

    def _reach_kill_point(self) -> None:
        self.kill_points += 1
        if self.kill_points == self._kill_at:
            raise Killed


def in_transaction() -> bool:
    """Return whether a transaction other than the test's own is open."""
    blocks = connection.atomic_blocks
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


@contextmanager
def rolled_back() -> Iterator[None]:
    """Roll back the block's database changes, as TestCase does."""
    # Marked as a test's own: on_commit() and durable blocks then work inside it.
    block: Any = Atomic(using=None, savepoint=True, durable=False)
    block._from_testcase = True
    with block:
        yield
        connection.set_rollback(True)
