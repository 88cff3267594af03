"""The Celery application. Its configuration is the CELERY_ part of the settings."""

import os
from typing import Any

import structlog
from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging
from django_structlog.celery.signals import bind_extra_task_metadata
from django_structlog.celery.steps import DjangoStructLogInitStep

from caravel import dev_defaults

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")

app = Celery("caravel", task_cls="caravel.core.celery_task:CaravelTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Each task's lines carry its id and the id of the request that enqueued it.
app.steps["worker"].add(DjangoStructLogInitStep)


@bind_extra_task_metadata.connect
def name_the_task(task: Any, **kwargs: Any) -> None:
    """Put the task's name on each of its log lines."""
    structlog.contextvars.bind_contextvars(task=task.name)


@setup_logging.connect
def keep_our_logging(**kwargs: Any) -> None:
    """Celery leaves the logging alone that the settings set up."""


@celeryd_init.connect
@beat_init.connect
def start_servers(**kwargs: Any) -> None:
    """A worker or beat started by hand runs on the embedded servers too."""
    dev_defaults.start_embedded_servers()
