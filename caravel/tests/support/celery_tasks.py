"""Tasks that tests run in place of a worker."""

from collections.abc import Callable, Iterable
from typing import Any


def run_each(task: Callable[..., Any]) -> Callable[[Iterable[Any]], None]:
    """Return a `delay_many` that runs the task for each key at once."""

    def run(keys: Iterable[Any]) -> None:
        for key in keys:
            task(key)

    return run
