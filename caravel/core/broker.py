"""Redis transport for Celery that drops a message that it cannot read.

kombu and Celery let the error of such a message end the worker, or keep its slot for
good. Whoever can write to the broker could stop all workers with a few bytes.
"""

from collections.abc import Callable
from typing import Any

import structlog
from kombu.exceptions import SerializationError
from kombu.transport import TRANSPORT_ALIASES, redis

logger = structlog.get_logger(__name__)

#: What reading any JSON, or none, as a task's message raises. Not the errors of a
#: connection: Celery handles these.
_UNREADABLE = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError),
    *(TypeError, ValueError, SerializationError),
)


class Message(redis.Channel.Message):
    """Message of a queue. Raises ValueError if it is not like one of ours."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
            route = self.delivery_info["exchange"], self.delivery_info["routing_key"]
            names = [self.delivery_tag, *route]
        except _UNREADABLE as exc:
            raise ValueError("This is not a message.") from exc
        if self.content_type != "application/json":
            raise ValueError("The content of this message is not JSON.")
        if not all(isinstance(name, str) for name in names):
            raise ValueError("This message cannot be routed.")


class QoS(redis.QoS):
    """Acknowledgements, and messages to be delivered again because they have none."""

    def restore_by_tag(
        self, tag: Any, client: Any = None, leftmost: bool = False
    ) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)
        except _UNREADABLE as exc:
            _log(exc)
            self._remove_from_indices(tag).execute()


class Channel(redis.Channel):
    """Channel whose consumers never see a message that they cannot read."""

    Message = Message
    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (LookupError, RecursionError, TypeError, ValueError) as exc:
            _log(exc)
            return True

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], **kwargs: Any
    ) -> Any:
        def consume(message: Any) -> Any:
            try:
                _require_task(message)
                return callback(message)
            except _UNREADABLE as exc:
                _log(exc)
                # Until then it occupies a slot, and would be delivered again.
                if not message.acknowledged:
                    message.reject()

        return super().basic_consume(queue, no_ack, consume, **kwargs)


class Transport(redis.Transport):
    Channel = Channel


def use_for_redis() -> None:
    """Use this transport for the URLs of Redis, which stay as they are."""
    path = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), path))


def _require_task(message: Any) -> None:
    """Require a task's message to be like ours; raises one of _UNREADABLE.

    Pools lose a slot when they find out: the one of processes by odd time limits, the
    one of threads by arguments that cannot be read.
    """
    if not isinstance(message.headers, dict) or "task" not in message.headers:
        return  # Celery rejects it.
    names = [message.headers.get(name) for name in ("task", "id")]
    times = [message.headers.get(name, "") or "" for name in ("eta", "expires")]
    hard, soft = message.headers.get("timelimit", [None, None])
    args, kwargs, embed = message.decode()
    for value, kind in (
        *((text, str) for text in (*names, *times)),
        *((limit or 0, int) for limit in (hard, soft)),
        *((args, list), (kwargs, dict), (embed, dict)),
    ):
        if type(value) is not kind:
            raise TypeError(f"{kind.__name__} expected.")


def _log(error: Exception) -> None:
    # Not the message, which may have been written by anybody.
    logger.error("message_dropped", reason=type(error).__name__)
