from typing import Any

from celery import Task

class DjangoTask(Task[..., Any]): ...
