"""Celery's support for Django, with connections that are kept between tasks.

Celery closes them before and after each task, whatever CONN_MAX_AGE says, since those
of many threads or green threads would add up (https://github.com/celery/celery/pull/9824).
"""

from typing import Any, Self

from celery.fixups.django import DjangoFixup, DjangoWorkerFixup
from django.db import close_old_connections, connections


class WorkerFixup(DjangoWorkerFixup):
    """Treats a task as Django does a request: CONN_MAX_AGE, one health check."""

    def install(self) -> Self:
        super().install()
        if not self._is_prefork():
            _keep_no_connections()
        return self

    def close_database(self, **kwargs: Any) -> None:
        """Run before and after each task."""
        close_old_connections()


class Fixup(DjangoFixup):
    @property
    def worker_fixup(self) -> DjangoWorkerFixup:
        if self._worker_fixup is None:
            self._worker_fixup = WorkerFixup(self.app)
        return self._worker_fixup


def fixup(app: Any) -> Fixup:
    """Install the fixup of an app; Celery calls it."""
    return Fixup(app).install()


def _keep_no_connections() -> None:
    """Close connections after use: threads share those of DATABASE_POOL, if any."""
    for settings in connections.settings.values():
        settings["CONN_MAX_AGE"] = 0
