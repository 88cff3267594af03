"""The Celery application, configured by the dictionary CELERY of the settings."""

import gc
import os
from importlib import import_module
from typing import Any

import structlog
from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging, worker_init
from django.conf import settings
from django.dispatch import receiver
from django_structlog.celery.signals import bind_extra_task_metadata
from django_structlog.celery.steps import DjangoStructLogInitStep

from caravel import dev_defaults
from caravel.core import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")
# Celery runs Django's checks and ignores their result; they import all views, which
# takes a fifth of a worker's start.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

broker.use_for_redis()
app = Celery(
    "caravel",
    task_cls="caravel.core.celery_task:CaravelTask",
    fixups=["caravel.core.celery_fixup:fixup"],
)
# Only these: whatever shows Celery's configuration must not show Django's secrets.
app.config_from_object("caravel.settings:CELERY")
app.autodiscover_tasks()
# Adds the task's id, and the id of the request that enqueued it, to each log line.
app.steps["worker"].add(DjangoStructLogInitStep)


@receiver(bind_extra_task_metadata)
def bind_task_name(task: Any, **kwargs: Any) -> None:
    """Add the task's name to each of its log lines."""
    structlog.contextvars.bind_contextvars(task=task.name)


@setup_logging.connect
def keep_logging_configuration(**kwargs: Any) -> None:
    """Do nothing: with a receiver connected, Celery does not configure logging."""


@celeryd_init.connect
@beat_init.connect
def start_servers(**kwargs: Any) -> None:
    """Start the embedded servers for a worker or beat that was started by hand."""
    dev_defaults.start_embedded_servers()


@worker_init.connect
def share_memory(**kwargs: Any) -> None:
    """Load all that tasks need before the processes are forked that run them.

    Links in messages need all views, which each process would load for itself, within
    its first task. And each would copy what its garbage collector looks through.
    """
    import_module(settings.ROOT_URLCONF)
    gc.freeze()
