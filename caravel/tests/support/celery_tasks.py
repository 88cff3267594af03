"""Tasks that tests run in place of a worker."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.app.trace import build_tracer
from celery.signals import task_postrun, task_prerun

from caravel.celery import app
from caravel.core.celery_fixup import WorkerFixup


def run_each(task: Callable[..., Any]) -> Callable[[Iterable[Any]], None]:
    """Return a `delay_many` that runs the task for each key at once."""

    def run(keys: Iterable[Any]) -> None:
        for key in keys:
            task(key)

    return run


@contextmanager
def worker_fixup() -> Iterator[WorkerFixup]:
    """Treat the connections of tasks in the block as a worker does."""
    fixup = WorkerFixup(app)
    task_prerun.connect(fixup.on_task_prerun)
    task_postrun.connect(fixup.on_task_postrun)
    try:
        yield fixup
    finally:
        task_prerun.disconnect(fixup.on_task_prerun)
        task_postrun.disconnect(fixup.on_task_postrun)


def run_as_worker(name: str, *args: object) -> None:
    """Run a task with what Celery does before and after it."""
    request = {"id": "1", "hostname": "test", "delivery_info": {}, "is_eager": False}
    trace = build_tracer(name, app.tasks[name], app=app)
    trace("1", args, {}, {**request, "args": args, "kwargs": {}, "task": name})
