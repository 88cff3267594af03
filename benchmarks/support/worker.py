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
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


class Worker:
    """A running worker; `watch` records the maximum of its resource use."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self._process = process
        self._name = name
        self.pid = process.pid
        #: In megabytes.
        self.memory = 0.0
        self.database_connections = 0

    def watch(self) -> None:
        """Measure now. Raises RuntimeError if the worker has ended."""
        if self._process.poll() is not None:
            raise RuntimeError("the worker ended")
        self.memory = max(self.memory, resident(self._process.pid))
        with connection.cursor() as cursor:
            cursor.execute(_CONNECTIONS, [self._name])
            (count,) = cursor.fetchone() or (0,)
        self.database_connections = max(self.database_connections, count)


def command(name: str, threads: int | None = None) -> list[str]:
    """Return the Procfile's command, with a host name and maybe a concurrency."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("network:")]
    line = line.replace("network@%h", f"{name}@%h")
    if threads is not None:
        line = re.sub(r"--concurrency \d+", f"--concurrency {threads}", line)
    return shlex.split(line.partition(":")[2])


@contextmanager
def running(
    env: Mapping[str, str],
    *,
    log: Path,
    name: str = "network",
    threads: int | None = None,
) -> Iterator[Worker]:
    """Run the worker for the length of the block; at the end it finishes its tasks."""
    path = f"{_BIN}:{env['PATH']}"
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command(name, threads),
            cwd=ROOT,
            env={**env, "PATH": path, "PGAPPNAME": name},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            yield Worker(process, name)
        finally:
            process.terminate()
