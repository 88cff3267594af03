from collections.abc import Callable
from typing import Any

class _Message:
    delivery_tag: Any
    delivery_info: Any
    headers: Any
    content_type: Any
    acknowledged: bool
    def __init__(self, payload: Any, channel: Any = ..., **kwargs: Any) -> None: ...
    def decode(self) -> Any: ...
    def reject(self) -> None: ...

class QoS:
    def restore_by_tag(
        self, tag: Any, client: Any = ..., leftmost: bool = ...
    ) -> None: ...
    def _remove_from_indices(self, delivery_tag: Any, pipe: Any = ...) -> Any: ...

class Channel:
    QoS: type[QoS]
    class Message(_Message): ...

    def _brpop_read(self, **options: Any) -> Any: ...
    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], **kwargs: Any
    ) -> Any: ...

class Transport:
    Channel: type[Channel]
