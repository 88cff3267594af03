"""Base class of all Celery tasks."""

from typing import Any

from celery.contrib.django.task import DjangoTask
from django.db import transaction


class CaravelTask(DjangoTask):
    """Task that is enqueued on commit, and tolerates a broker that is down.

    The row of work is committed by then. If its message cannot be sent, the error is
    logged and a sweep sends the message later.
    """

    abstract = True

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Enqueue when the transaction commits. Never raises."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self, args: Any = (), kwargs: Any = None, **options: Any
    ) -> None:
        """Enqueue with options when the transaction commits. Never raises."""

        # Not a partial: Django logs a failure with the callback's __qualname__.
        def enqueue() -> None:
            self.apply_async(args, kwargs, **options)

        transaction.on_commit(enqueue, robust=True)
