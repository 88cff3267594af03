"""Processes that tests start, and checks of whether they still run."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from caravel.tests.support.waiting import LIMIT

CHECKOUT = Path(__file__).resolve().parents[3]
#: Seconds after which a process that a test started hangs.
PROCESS_LIMIT = 2 * LIMIT


def runs(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    process = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    return process.stdout.strip()[:1] not in {"", "Z"}


def environment(**changes: str) -> dict[str, str]:
    """Return an environment with our modules on the path, and without servers."""
    env = dict(os.environ)
    for name in ("DATABASE_URL", "REDIS_URL", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    return {**env, "PYTHONPATH": str(CHECKOUT), **changes}


@contextmanager
def default_signals() -> Iterator[None]:
    """Let processes that the block starts receive signals that this one ignores.

    They would inherit that SIGHUP is ignored under nohup, and SIGINT in the background
    job of a shell. They do not inherit a handler.
    """
    names = (signal.SIGINT, signal.SIGHUP)
    ignored = [name for name in names if signal.getsignal(name) is signal.SIG_IGN]
    for name in ignored:
        signal.signal(name, lambda signum, frame: None)
    try:
        yield
    finally:
        for name in ignored:
            signal.signal(name, signal.SIG_IGN)


@contextmanager
def bounded(
    process: subprocess.Popen[str], *, seconds: float = PROCESS_LIMIT
) -> Iterator[None]:
    """Kill the process at the end of the block; fail if it hangs until then.

    A hanging process is killed as well, so that reading its output ends.
    """
    hangs = threading.Event()

    def end() -> None:
        hangs.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    except BaseException as exc:
        if hangs.is_set():
            exc.add_note(f"killed after {seconds:g} s: {process.args!r}")
        raise
    finally:
        timer.cancel()
        process.kill()
    assert not hangs.is_set(), f"killed after {seconds:g} s: {process.args!r}"


@contextmanager
def python(
    script: str, *arguments: object, prefix: Sequence[str] = (), **env: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a script in its own session; kill it at the end."""
    command = [*prefix, sys.executable, "-c", script, *map(str, arguments)]
    with default_signals():
        process = subprocess.Popen(
            command,
            env=environment(**env),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    with process, bounded(process):
        yield process


def output(process: subprocess.Popen[str]) -> str:
    """Wait for the end and return the output; fail if the exit status is not 0."""
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, stderr
    return stdout
