"""A keeper: the process between the supervisor and a command."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

from caravel.embedded.processes import adopt_orphans, die_with_parent

_POLL_INTERVAL = 0.1
_ORPHAN_TIMEOUT = 5.0  # short: the servers are gone too, work cannot be finished
#: Seconds between two looks at the supervisor.
_LOOK_INTERVAL = 1.0
_COMMAND_NOT_FOUND = 127  # the exit status of a shell


@dataclass(frozen=True)
class Child:
    """A command with its complete environment; with `log`, output goes to that file."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path | None = None


def keep(child: Child, output: Connection, kill_after: float) -> None:
    """Run the command as the keeper, until all that it started has ended."""
    os.setsid()
    signal.set_wakeup_fd(-1)  # the supervisor's
    adopt_orphans()
    # Not an event: a second signal within `set` would wait for its lock forever.
    stop_requests: SimpleQueue[None] = SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: stop_requests.put(None))
    try:
        process = _start(child, output)
    except OSError as exc:
        text = f"cannot run {child.command[0]}: {exc.strerror}\n"
        os.write(output.fileno(), text.encode())
        sys.exit(_COMMAND_NOT_FOUND)
    arguments = (process, stop_requests, min(kill_after, _ORPHAN_TIMEOUT))
    threading.Thread(target=_watch, args=arguments, daemon=True).start()
    returncode = process.wait()
    os.killpg(0, signal.SIGTERM)
    _reap_group(kill_after)
    # Killed by signal n: 128 + n, as in a shell.
    sys.exit(returncode if returncode >= 0 else 128 - returncode)


def _start(child: Child, output: Connection) -> "subprocess.Popen[bytes]":
    with ExitStack() as stack:
        stdout = output.fileno()
        if child.log:
            child.log.parent.mkdir(parents=True, exist_ok=True)
            stdout = stack.enter_context(child.log.open("ab")).fileno()
        return subprocess.Popen(
            child.command,
            # Python buffers its output if that is not a terminal.
            env={"PYTHONUNBUFFERED": "1", **child.env},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )


def _watch(
    process: "subprocess.Popen[bytes]",
    stop_requests: SimpleQueue[None],
    timeout: float,
) -> None:
    """Stop the command on request, and the whole group after the supervisor's end."""
    supervisor = multiprocessing.parent_process()
    pid = supervisor.pid if supervisor else None
    while os.getppid() == pid:
        with suppress(Empty):
            stop_requests.get(timeout=_LOOK_INTERVAL)
            break
    process.terminate()
    while os.getppid() == pid:
        time.sleep(_POLL_INTERVAL)
    time.sleep(timeout)
    os.killpg(0, signal.SIGKILL)


def _reap_group(timeout: float) -> None:
    """Wait for the group's processes that were adopted."""
    deadline = time.monotonic() + timeout
    with suppress(ChildProcessError):  # none is left
        while time.monotonic() < deadline:
            if not os.waitpid(0, os.WNOHANG)[0]:
                time.sleep(_POLL_INTERVAL / 5)
