"""The Node scripts of this package, which exchange lines of JSON."""

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caravel.tests.support.waiting import LIMIT, join, wait_until

INTEROP_DIR = Path(__file__).parents[2]
#: Seconds for a script to end once its input is closed.
STOP_TIMEOUT = LIMIT
FAILED = "the script failed: see its stderr"

Message = dict[str, Any]


class Script:
    """A running script; `on_message` is called with each of its lines, in a thread."""

    def __init__(self, name: str, on_message: Callable[[Message], None]) -> None:
        self._on_message = on_message
        self._writing = threading.Lock()
        self._process = subprocess.Popen(
            ["node", name],
            cwd=INTEROP_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._thread = threading.Thread(target=self._read, name=name)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Write a line to the script, unless it is stopped."""
        lines = self._process.stdin
        assert lines is not None
        with self._writing:
            if not lines.closed:
                lines.write(json.dumps(message) + "\n")
                lines.flush()

    def until(self, condition: Callable[[], object]) -> None:
        """Poll until the condition holds; fails at once if the script has ended."""
        wait_until(lambda: self._process.poll() is not None or condition())
        assert self._process.poll() is None, FAILED

    def stop(self) -> None:
        """Stop the script and its thread. Fails if the script failed."""
        process = self._process
        assert process.stdin is not None
        try:
            with self._writing:
                process.stdin.close()
            status = process.wait(STOP_TIMEOUT)
        finally:
            process.kill()
            process.wait(LIMIT)
            join(self._thread)
        assert status == 0, FAILED

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._on_message(json.loads(line))
