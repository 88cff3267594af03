from collections.abc import Sequence
from multiprocessing.queues import Queue
from typing import Any

from honcho.printer import Message

class Process:
    cmd: Sequence[str]
    name: str
    env: dict[str, str]
    _events: Queue[Message] | None
    def run(
        self, events: Queue[Message] | None = None, ignore_signals: bool = False
    ) -> None: ...
    def _send_message(self, data: Any, type: str = "line") -> None: ...
