"""The Node scripts beside this package, which speak in lines of JSON."""

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.tests.support.polling import until

FOLDER = Path(__file__).parents[2]
#: Seconds that a script may take to end once it hears no more.
PATIENCE = 10.0
FAILED = "the script has failed: see what it wrote to stderr"

Message = dict[str, Any]


class Script:
    """A running script; `take` gets each of its lines, in a thread of its own."""

    def __init__(self, name: str, take: Callable[[Message], None]) -> None:
        self._take = take
        self._writing = threading.Lock()
        self._process = subprocess.Popen(
            ["node", name],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._thread = threading.Thread(target=self._hear, name=name)
        self._thread.start()

    def say(self, message: Message) -> None:
        """Write a line to it; once it is stopped it is told nothing more."""
        lines = self._process.stdin
        assert lines is not None
        with self._writing:
            if not lines.closed:
                lines.write(json.dumps(message) + "\n")
                lines.flush()

    def until(self, condition: Callable[[], object]) -> None:
        """Poll until the condition holds; it fails at once when the script does."""
        until(lambda: self._process.poll() is not None or condition())
        assert self._process.poll() is None, FAILED

    def stop(self) -> None:
        """End it and its thread. Fails if it failed."""
        process = self._process
        assert process.stdin is not None
        try:
            with self._writing:
                process.stdin.close()
            status = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            self._thread.join()
        assert status == 0, FAILED

    def _hear(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._take(json.loads(line))
