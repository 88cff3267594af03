"""Base class of all Celery tasks."""

from collections.abc import Iterable
from typing import Any

import structlog
from celery.contrib.django.task import DjangoTask
from django.db import transaction
from kombu.exceptions import BatchPublishError, OperationalError

logger = structlog.get_logger(__name__)

#: Messages of a batch that are sent in one round trip to the broker.
_BATCH = 200
#: Priority of messages that wait until the queues have no others: of Redis' 0, 3, 6
#: and 9 the last. https://docs.celeryq.dev/en/stable/userguide/routing.html
BULK = 9


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

    def delay_many(self, keys: Iterable[str | int], *, priority: int = 0) -> None:
        """Enqueue one task for each key, in few round trips to the broker.

        If the broker is down, the error is logged: a later sweep finds the rows again.
        """
        try:
            with (
                self.app.producer_pool.acquire(block=True) as producer,
                producer.batch(max_size=_BATCH),
            ):
                for key in keys:
                    self.apply_async((key,), producer=producer, priority=priority)
        except (OperationalError, BatchPublishError) as exc:
            logger.warning("messages_not_sent", task=self.name, error=str(exc))
