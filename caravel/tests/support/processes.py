"""Processes that tests start, and checks of whether they still run."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def eventually(condition: Callable[[], object], *, seconds: float = 15) -> bool:
    """Return whether the condition became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def runs(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    process = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return process.stdout.strip()[:1] not in {"", "Z"}


def environment(**changes: str) -> dict[str, str]:
    """Return an environment with our modules on the path, and without servers."""
    env = dict(os.environ)
    for name in ("DATABASE_URL", "REDIS_URL", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    return {**env, "PYTHONPATH": str(CHECKOUT), **changes}


@contextmanager
def python(
    script: str, *arguments: object, prefix: Sequence[str] = (), **env: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a script in its own session; kill it at the end."""
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
    """Wait for the end and return the output; fail if the exit status is not 0."""
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    return stdout
