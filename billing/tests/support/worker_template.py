"""A process that has imported the application, and forks a Celery worker per request.

`python -m billing.tests.support.worker_template` reads one JSON object per line, with
the worker's arguments and log file, and prints the worker's process id.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import django
from celery.__main__ import main as run_celery
from celery.concurrency import get_implementation

from caravel.celery import app


def main() -> None:
    """Fork workers until the input ends."""
    django.setup()
    app.loader.import_default_modules()
    for pool in ("prefork", "threads"):
        get_implementation(pool)
    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        print(fork_worker(**json.loads(line)), flush=True)


def reap(signum: int, frame: FrameType | None) -> None:
    """Remove workers that have ended from the process table."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork_worker(*, arguments: Sequence[str], log: str) -> int:
    """Fork a worker in its own process group; return its process id."""
    pid = os.fork()
    if pid == 0:
        run_worker(arguments, log)
    os.setpgid(pid, pid)
    return pid


def run_worker(arguments: Sequence[str], log: str) -> None:
    """Become a worker whose output goes to the log file."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for output in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), output)
    sys.argv = ["celery", *arguments]
    try:
        run_celery()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
