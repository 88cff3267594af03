from datetime import datetime
from typing import Any

from celery import Celery

class ScheduleEntry:
    name: str
    schedule: Any
    last_run_at: datetime
    def is_due(self) -> Any: ...
    def __init__(
        self, name: str = ..., *, app: Celery = ..., **kwargs: Any
    ) -> None: ...

class Scheduler:
    schedule: dict[str, ScheduleEntry]
    def __init__(self, app: Celery, *, lazy: bool = ..., **kwargs: Any) -> None: ...
    def setup_schedule(self) -> None: ...
    def apply_entry(self, entry: ScheduleEntry, producer: Any = ...) -> None: ...
