"""One worker that plays all of them, and may be killed wherever it calls or commits."""

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
#: More messages than one event leads to.
_MOST = 200


class Worker:
    """Works off what is enqueued, in order; tasks of other apps are not its own."""

    def __init__(self) -> None:
        self.points = 0
        self._dies_at: int | None = None
        self._messages: deque[tuple[Any, tuple[Any, ...]]] = deque()

    def enqueue(self, task: Any, *args: Any) -> None:
        """Have a task run later."""
        if task.name.startswith("billing."):
            self._messages.append((task, args))

    def work(self) -> None:
        """Work off everything, and what follows from it."""
        for _ in range(_MOST):
            self._publish()
            if not self._messages:
                return
            task, args = self._messages.popleft()
            task.run(*args)
        raise AssertionError("the worker does not come to rest")

    def sweep(self) -> None:
        """Do what the beat does, and what follows from it."""
        for task in SWEEPS:
            task.run()
        self.work()

    def die_at(self, point: int | None) -> None:
        """Count the points from now on, and die at one of them."""
        self.points, self._dies_at = 0, point

    def forget(self) -> None:
        """Lose all messages, and those that were about to be sent."""
        self._messages.clear()
        connection.run_on_commit = []

    @contextmanager
    def hired(self) -> Iterator[None]:
        """Take what is enqueued within the block, and watch what leaves the process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CaravelTask, "apply_async", self._taking_messages())
            real = stripe.RequestsClient.request
            patch.setattr(stripe.RequestsClient, "request", self._around(real))
            patch.setattr(Atomic, "__exit__", self._after_commit(Atomic.__exit__))
            yield

    def _publish(self) -> None:
        hooks, connection.run_on_commit = connection.run_on_commit, []
        for hook in hooks:
            hook[1]()

    def _taking_messages(self) -> Callable[..., None]:
        def apply_async(task: Any, args: Any = (), *rest: Any, **options: Any) -> None:
            self.enqueue(task, *args)

        return apply_async

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def request(*args: Any, **kwargs: Any) -> Any:
            self._pass()
            answer = real(*args, **kwargs)
            self._pass()
            return answer

        return request

    def _after_commit(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def leave(block: Any, failed: Any, *exc: Any) -> Any:
            done = real(block, failed, *exc)
            if failed is None and not in_transaction():
                self._pass()
            return done

        return leave

    def _pass(self) -> None:
        self.points += 1
        if self.points == self._dies_at:
            raise Killed


def in_transaction() -> bool:
    """Return whether a transaction is open that is not the test's own."""
    blocks = connection.atomic_blocks
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


@contextmanager
def rolled_back() -> Iterator[None]:
    """Undo in the database what is done within the block, as if in a test."""
    block: Any = Atomic(using=None, savepoint=True, durable=False)
    block._from_testcase = True
    with block:
        yield
        connection.set_rollback(True)
