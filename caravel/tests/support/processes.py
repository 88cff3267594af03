"""Real processes for the tests of what starts and ends them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def eventually(condition: Callable[[], object], *, seconds: float = 15) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def runs(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return found.stdout.strip()[:1] not in {"", "Z"}


def environment(**changes: str) -> dict[str, str]:
    """Return one in which a script finds our modules, and no servers."""
    kept = dict(os.environ)
    for name in ("DATABASE_URL", "REDIS_URL", "PYTEST_ADDOPTS"):
        kept.pop(name, None)
    return {**kept, "PYTHONPATH": str(CHECKOUT), **changes}


@contextmanager
def python(
    script: str, *arguments: object, prefix: Sequence[str] = (), **env: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a session of its own; what is left at the end is killed."""
    command = [*prefix, sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(
        command,
        env=environment(**env),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def output(process: subprocess.Popen[str]) -> str:
    """Wait for the end; return what it printed. An error fails the test."""
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    return stdout
