"""Workers without processes: their messages, their deaths, and what comes between.

What tasks enqueue waits here and is worked off in this thread, in an order that a
seed decides. Around each call that leaves the process, and after each commit, a worker
may be killed, and around each call another may get its turn.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import stripe
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from caravel.core.celery_task import CaravelTask
from caravel.core.db import transactions
from caravel.nostr.relays.pool import RelayPool

#: More than follows from anything that the tests do at once.
_MOST_MESSAGES = 2_000
#: How deep workers take turns inside each other's calls.
_DEEPEST = 3


class Killed(BaseException):
    """SIGKILL, as far as one process can play it."""


class PooledConnection:
    """The database connection, which costs nothing to give back before a call."""

    def __getattr__(self, name: str) -> Any:
        return getattr(connection, name)

    def close(self) -> None:
        """Keep it, as a pool does."""


@dataclass(frozen=True)
class Message:
    """A task that a worker is to run, not before a moment of `time.time()`."""

    task: Any
    args: tuple[Any, ...]
    due_at: float


class Workers:
    """All workers, played by one thread.

    `interleaving` is how likely another one gets its turn at a call, `repeating` how
    likely a message comes twice.
    """

    def __init__(
        self, seed: int, *, now: Callable[[], float], pass_time: Callable[[], None]
    ) -> None:
        self.random = Random(seed)
        self.interleaving = 0.0
        self.repeating = 0.0
        self.deaths = 0
        self._now = now
        self._pass_time = pass_time
        self._messages: list[Message] = []
        self._meanwhile: list[tuple[int, Callable[[], object]]] = []
        self._depth = 0
        self._dies_in: int | None = None

    # --- what the tests ask for

    def kill_after(self, points: int) -> None:
        """Let the worker die that comes to so many points from now on."""
        self._dies_in = points

    def meanwhile(self, deed: Callable[[], object], *, after: int = 0) -> None:
        """Let something be done before, or after, one of the next calls that leave."""
        self._meanwhile.append((after, deed))

    def forget_faults(self) -> None:
        """Let all that was still to go wrong go right."""
        self._dies_in = None
        self._meanwhile.clear()
        self.interleaving = self.repeating = 0.0

    @property
    def next_at(self) -> float | None:
        """When the first message is due, None without one."""
        return min((one.due_at for one in self._messages), default=None)

    def lose_messages(self) -> None:
        """Forget all messages, as a broker does that is started anew."""
        self._messages.clear()

    def work(self) -> int:
        """Work off what is due, and what follows from it; return how much it was."""
        for done in range(_MOST_MESSAGES):
            if not self._work_one():
                return done
        raise AssertionError("the workers do not come to rest")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """What is done inside is a worker's, or a web process's: it may die.

        Raises Killed when it did.
        """
        self._depth += 1
        try:
            yield
        except Killed:
            # Its connection goes with it, and whatever was to follow a commit.
            connection.close()
            raise
        finally:
            self._depth -= 1

    @contextmanager
    def hired(self) -> Iterator[None]:
        """Work on what is enqueued within the block."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CaravelTask, "apply_async", self._taking_messages())
            patch.setattr(transactions, "connection", PooledConnection())
            for owner, name in (
                (stripe.RequestsClient, "request"),
                (RelayPool, "request_all"),
                (RelayPool, "fetch"),
                (RelayPool, "publish"),
            ):
                patch.setattr(owner, name, self._around(getattr(owner, name)))
            patch.setattr(
                BaseDatabaseWrapper,
                "run_and_clear_commit_hooks",
                self._after_commits(BaseDatabaseWrapper.run_and_clear_commit_hooks),
            )
            yield

    # --- messages

    def _taking_messages(self) -> Callable[..., None]:
        def apply_async(
            task: Any, args: Any = (), kwargs: Any = None, **options: Any
        ) -> None:
            assert not kwargs
            sent = tuple(json.loads(json.dumps(list(args or ()))))
            due_at = self._now() + (options.get("countdown") or 0)
            self._messages.append(Message(task, sent, due_at))
            if self.random.random() < self.repeating:
                self._messages.append(Message(task, sent, due_at))

        return apply_async

    def _take(self) -> Message | None:
        due = [one for one in self._messages if one.due_at <= self._now()]
        if not due:
            return None
        chosen = self.random.choice(due)
        self._messages.remove(chosen)
        return chosen

    def _work_one(self) -> bool:
        message = self._take()
        if message is None:
            return False
        try:
            with self.at_work():
                message.task.run(*message.args)
        except Killed:
            # The broker gives it to another worker, unless it is lost as well.
            if self.random.random() < 0.5:
                self._messages.append(message)
        return True

    # --- points where things may go wrong

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._depth:
                return real(*args, **kwargs)
            self._pass_call()
            answer = real(*args, **kwargs)
            self._pass_call()
            return answer

        return call

    def _pass_call(self) -> None:
        self._die_if_due()
        self._pass_time()
        if self._depth >= _DEEPEST or connection.in_atomic_block:
            return
        self._interrupt()
        if self.random.random() < self.interleaving:
            self._work_one()

    def _interrupt(self) -> None:
        due = [deed for left, deed in self._meanwhile if not left]
        self._meanwhile = [(left - 1, deed) for left, deed in self._meanwhile if left]
        for deed in due:
            deed()

    def _after_commits(
        self, real: Callable[[BaseDatabaseWrapper], None]
    ) -> Callable[[BaseDatabaseWrapper], None]:
        def run_hooks(wrapper: BaseDatabaseWrapper) -> None:
            if self._depth:
                self._die_if_due()
            real(wrapper)

        return run_hooks

    def _die_if_due(self) -> None:
        if self._dies_in is None:
            return
        self._dies_in -= 1
        if self._dies_in < 0:
            self._dies_in = None
            self.deaths += 1
            raise Killed
