from collections.abc import Callable
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

class Signal:
    @overload
    def connect(self, fun: F, /) -> F: ...
    @overload
    def connect(self, *, dispatch_uid: str) -> Callable[[F], F]: ...
    def send(self, sender: Any, **named: Any) -> Any: ...
    def disconnect(self, receiver: Callable[..., Any]) -> None: ...

setup_logging: Signal
worker_ready: Signal
celeryd_init: Signal
beat_init: Signal
worker_init: Signal
before_task_publish: Signal
task_prerun: Signal
task_postrun: Signal
