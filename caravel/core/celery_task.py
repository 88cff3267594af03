"""The base class of every task."""

from typing import Any

from celery.contrib.django.task import DjangoTask
from django.db import transaction


class CaravelTask(DjangoTask):
    """Enqueues after commit, and survives a broker that is away.

    The row that asks for the work is committed by then; a message that could not
    be sent is logged and its sweep finds the row.
    """

    abstract = True

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Like `delay`, after commit. Returns nothing; raises nothing."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self, args: Any = (), kwargs: Any = None, **options: Any
    ) -> None:
        """Like `apply_async`, after commit. Returns nothing; raises nothing."""

        # A partial has no __qualname__, which Django wants when it logs a failure.
        def enqueue() -> None:
            self.apply_async(args, kwargs, **options)

        transaction.on_commit(enqueue, robust=True)
