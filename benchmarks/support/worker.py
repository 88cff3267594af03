"""The network worker, run with production's command, and its resource use."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from benchmarks.support.memory import resident

ROOT = Path(__file__).resolve().parents[2]
_BIN = Path(sys.executable).parent
#: Application name of the worker's connections to PostgreSQL.
_NAME = "measured-worker"
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


class Worker:
    """A running worker; `watch` records the maximum of its resource use."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        #: In megabytes.
        self.memory = 0.0
        self.database_connections = 0

    def watch(self) -> None:
        """Measure now. Raises RuntimeError if the worker has ended."""
        if self._process.poll() is not None:
            raise RuntimeError("the worker ended")
        self.memory = max(self.memory, resident(self._process.pid))
        with connection.cursor() as cursor:
            cursor.execute(_CONNECTIONS, [_NAME])
            (count,) = cursor.fetchone() or (0,)
        self.database_connections = max(self.database_connections, count)


def command(threads: int | None = None) -> list[str]:
    """Return the Procfile's command, optionally with another concurrency."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("network:")]
    if threads is not None:
        line = re.sub(r"--concurrency \d+", f"--concurrency {threads}", line)
    return shlex.split(line.partition(":")[2])


@contextmanager
def running(
    env: Mapping[str, str], *, log: Path, threads: int | None = None
) -> Iterator[Worker]:
    """Run the worker for the length of the block; at the end it finishes its tasks."""
    path = f"{_BIN}:{env['PATH']}"
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command(threads),
            cwd=ROOT,
            env={**env, "PATH": path, "PGAPPNAME": _NAME},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            yield Worker(process)
        finally:
            process.terminate()
