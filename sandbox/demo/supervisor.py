"""Several processes as one: they start together, stop together, leave no orphans.

Between the supervisor and each command is a keeper: a process in the command's session
that stops the command if the supervisor is killed, and stops what the command leaves.
"""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from caravel.embedded.processes import adopt_orphans, die_with_parent

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_INTERVAL = 0.1
_ORPHAN_TIMEOUT = 5.0  # short: the servers are gone too, work cannot be finished
_OUTPUT_TIMEOUT = 1.0
_COMMAND_NOT_FOUND = 127  # the exit status of a shell
# Not forkserver: it would become the parent of the keepers, which watch their parent.
_context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)


@dataclass(frozen=True)
class Child:
    """A command with its complete environment; with `log`, output goes to that file."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path | None = None


def supervise(
    children: Sequence[Child], *, prefix: bool = True, kill_after: float = 10.0
) -> int:
    """Run the children until one ends or a stop signal arrives; then stop all.

    Each gets SIGTERM and, `kill_after` seconds later, SIGKILL for its process group.
    Call it from the main thread. Returns the exit code of the child that ended first,
    0 after Ctrl-C, SIGTERM or SIGHUP.
    """
    return _Supervisor(prefix=prefix, kill_after=kill_after).run(children)


def free_ports(preferred: Iterable[int]) -> list[int]:
    """Return the preferred ports of 127.0.0.1, or free ones for those taken."""
    # All are held open until the last is chosen: no port is returned twice.
    with ExitStack() as stack:
        probes = [stack.enter_context(_listening(port)) for port in preferred]
        return [int(probe.getsockname()[1]) for probe in probes]


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _keep(child: Child, output: Connection, kill_after: float) -> None:
    """Run the command as the keeper, until all that it started has ended."""
    os.setsid()
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
            stop_requests.get(timeout=_POLL_INTERVAL)
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


class _Supervisor:
    """Starts and stops the keepers, and prints the output."""

    def __init__(self, *, prefix: bool, kill_after: float) -> None:
        self._printer = Printer(sys.stdout, prefix=prefix)
        self._printing = threading.Lock()
        self._kill_after = kill_after
        #: The keepers that run, and the threads that print their output.
        self._running: dict[str, tuple[BaseProcess, threading.Thread]] = {}
        self._returncode: int | None = None
        self._stop_requested = False
        self._kill_at: float | None = None

    def run(self, children: Sequence[Child]) -> int:
        """Run until all commands have ended; see `supervise`."""
        names = ("system", *(child.name for child in children))
        self._printer.width = max(map(len, names))
        with self._handling_signals():
            try:
                self._start_all(children)
                while self._running:
                    ends = [process.sentinel for process, _ in self._running.values()]
                    self._handle_ended(wait(ends, _POLL_INTERVAL))
                    if self._stop_requested:
                        self._stop_all()
            finally:
                for process, _ in self._running.values():
                    process.terminate()
        return self._returncode or 0

    def _start_all(self, children: Sequence[Child]) -> None:
        for child, colour in zip(children, get_colours(), strict=False):
            reader, writer = _context.Pipe(duplex=False)
            arguments = (child, writer, self._kill_after)
            process = _context.Process(target=_keep, args=arguments, daemon=True)
            process.start()
            # Before the next keeper starts: it would hold the pipe open.
            writer.close()
            printer = threading.Thread(
                target=self._forward, args=(child.name, colour, reader), daemon=True
            )
            self._running[child.name] = process, printer
            self._note(f"{child.name} started (pid={process.pid})")
        for _, printer in self._running.values():  # only now: a fork copies locks
            printer.start()

    def _forward(self, name: str, colour: str, reader: Connection) -> None:
        with reader, open(reader.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                self._print(name, line, colour)

    def _handle_ended(self, sentinels: Sequence[object]) -> None:
        for name, (process, printer) in [*self._running.items()]:
            if process.sentinel not in sentinels:
                continue
            # Its exit code follows the sentinel, on a busy machine after a while.
            process.join()
            del self._running[name]
            # What is left of it, or all if the keeper was killed.
            _kill_group(process)
            # With a timeout: a process that left the group may hold the pipe open.
            printer.join(_OUTPUT_TIMEOUT)
            code = process.exitcode or 0
            code = code if code >= 0 else 128 - code
            self._note(f"{name} stopped (rc={code})")
            self._request_stop(code)

    def _request_stop(self, returncode: int) -> None:
        self._stop_requested = True
        if self._returncode is None:
            self._returncode = returncode

    def _stop_all(self) -> None:
        now = time.monotonic()
        if self._kill_at is None:
            self._kill_at = now + self._kill_after
            for name in self._running:
                self._note(f"stopping {name}")
        for name, (process, _) in self._running.items():
            if now < self._kill_at:
                # Again each time: a new keeper does not handle the signal yet.
                process.terminate()
            else:
                self._note(f"killing {name}")
                _kill_group(process)

    def _note(self, text: str) -> None:
        if self._printer.prefix:
            self._print("system", text)

    def _print(self, name: str, data: str | bytes, colour: str | None = None) -> None:
        message = Message("line", data, datetime.now(), name, colour)
        try:
            with self._printing:
                self._printer.write(message)
        except OSError:  # the terminal is gone
            self._stop_requested = True

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def handle(signum: int, frame: FrameType | None) -> None:
            self._request_stop(0)

        # Ignored signals stay ignored: nohup, background jobs of a shell.
        previous = {s: signal.getsignal(s) for s in _STOP_SIGNALS}
        handled = [s for s in _STOP_SIGNALS if previous[s] is not signal.SIG_IGN]
        with ExitStack() as stack:
            for signum in handled:
                stack.callback(signal.signal, signum, previous[signum])
                signal.signal(signum, handle)
            yield


def _kill_group(keeper: BaseProcess) -> None:
    # macOS: PermissionError if only zombies are left.
    with suppress(ProcessLookupError, PermissionError):
        if keeper.pid:
            os.killpg(keeper.pid, signal.SIGKILL)
