"""Messages that only say that there is work: few of them, whatever there is to do."""

import threading
from time import sleep

import structlog
from celery import current_app
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from caravel.core import cache

logger = structlog.get_logger(__name__)

#: Seconds between two messages of one process, and until it looks again whether a
#: message still waits: workers are busy then.
_INTERVAL, _BUSY_INTERVAL = 0.05, 0.2
#: Seconds after which a message that no worker has received no longer counts.
_EXPIRY = 5
#: Seconds until the next try to send one while the broker is down.
_PAUSE = 5.0


class WakeUp:
    """A task without arguments that takes work from a table until there is none.

    At most one message waits in the broker: the task calls `received` before it looks
    for work, so it finds all that was there when a later message was left out. A sweep
    makes up for a message that is lost.
    """

    def __init__(self, task_name: str) -> None:
        self.task_name = task_name
        self._key = f"wake-up:{task_name}"
        self._is_wanted = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def request(self) -> None:
        """Have this process's thread send a message. Waits for nothing."""
        self._is_wanted.set()
        # Started here and not earlier: no thread survives the fork of a web process.
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._send_wanted, name=self._key, daemon=True
                )
                self._thread.start()

    def send(self) -> bool:
        """Send a message unless one waits; return whether it was sent.

        Raises if the broker is down.
        """
        if not cache.add(self._key, 1, seconds=_EXPIRY):
            return False
        try:
            current_app.tasks[self.task_name].delay()
        except Exception:
            cache.delete(self._key)
            raise
        return True

    def received(self) -> None:
        """Let the next request send a message again."""
        cache.delete(self._key)

    def _send_wanted(self) -> None:
        while True:
            self._is_wanted.wait()
            self._is_wanted.clear()
            try:
                sleep(_INTERVAL if self.send() else _BUSY_INTERVAL)
            except (OperationalError, RedisError, OSError) as exc:
                logger.warning("wake_up_failed", task=self.task_name, error=str(exc))
                self._is_wanted.set()
                sleep(_PAUSE)
