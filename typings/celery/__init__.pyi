from collections.abc import Callable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")

class Task(Generic[P, R]):
    app: Any
    name: str
    request: Any
    abstract: bool
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...
    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def apply_async(
        self, args: Any = ..., kwargs: Any = ..., **options: Any
    ) -> Any: ...
    def apply_async_on_commit(
        self, args: Any = ..., kwargs: Any = ..., **options: Any
    ) -> None: ...
    def delay_many(self, keys: Iterable[str | int], *, priority: int = 0) -> None: ...

class Celery:
    tasks: dict[str, Task[..., Any]]
    conf: Any
    def __init__(self, main: str, **kwargs: Any) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

@overload
def shared_task(fun: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...

current_app: Celery
