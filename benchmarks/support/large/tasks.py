"""Each task of the schedule, and the first of each kind that these enqueue."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

from celery import current_app
from celery.app.task import Task
from django.conf import settings

from benchmarks.support.large.places import Place, run
from billing.clients.stripe import transport
from billing.services.customers import stripe_account

#: A message that was not sent: the name of its task, and the arguments.
Message = tuple[str, tuple[Any, ...], dict[str, Any]]


def run_tasks() -> Iterator[Place]:
    """Run the schedule's tasks in turn, each with one of its follow-ups.

    Nothing is sent to the broker. Servers are away: a task ends at its first call.
    """
    stripe_account.process.is_checked = True
    schedule = settings.CELERY_BEAT_SCHEDULE.values()
    names = sorted({str(entry["task"]) for entry in schedule})
    waiting: list[Message] = [(name, (), {}) for name in names]
    known = set(names)
    with patch.object(transport, "pause_for", lambda seconds: None):
        while waiting:
            name, args, kwargs = waiting.pop(0)
            enqueued: list[Message] = []
            with _unsent(enqueued):
                call = partial(current_app.tasks[name], *args, **kwargs)
                yield run("task", name, call)
            for message in enqueued:
                if message[0] not in known:
                    known.add(message[0])
                    waiting.append(message)


def _unsent(messages: list[Message]) -> Any:
    """Collect messages instead of sending them."""

    def collect(
        task: Any, args: Any = None, kwargs: Any = None, **options: Any
    ) -> None:
        messages.append((task.name, tuple(args or ()), dict(kwargs or {})))

    return patch.object(Task, "apply_async", collect)
