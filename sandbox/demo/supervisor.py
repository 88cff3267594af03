"""Several processes as one: they start together, stop together, leave no orphans.

Between the supervisor and each command is a keeper: a process in the command's session
that stops the command if the supervisor is killed, and stops what the command leaves.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from sandbox.demo.keeper import Child, keep
from sandbox.demo.readiness import NotReady

__all__ = ["Child", "free_ports", "supervise"]

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_INTERVAL = 0.1
#: Seconds between two looks at what tells us nothing by itself.
_LOOK_INTERVAL = 1.0
_OUTPUT_TIMEOUT = 1.0
# Not forkserver: it would become the parent of the keepers, which watch their parent.
_context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def supervise(
    children: Sequence[Child],
    *,
    prefix: bool = True,
    kill_after: float = 10.0,
    find_fault: Callable[[], str] = str,
    announce: Callable[[], str] = str,
) -> int:
    """Run the children until one ends or a stop signal arrives; then stop all.

    Each gets SIGTERM and, `kill_after` seconds later, SIGKILL for its process group.
    Call it from the main thread. All stop, too, if `find_fault` returns a text, which
    is printed; it is called each second. `announce` runs in a thread after the start,
    and its text is printed; it may raise NotReady. Returns the exit code of the child
    that ended first, 1 after a fault, 0 after Ctrl-C, SIGTERM or SIGHUP.
    """
    supervisor = _Supervisor(
        prefix=prefix, kill_after=kill_after, find_fault=find_fault
    )
    return supervisor.run(children, announce)


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


class _Supervisor:
    """Starts and stops the keepers, and prints the output."""

    def __init__(
        self, *, prefix: bool, kill_after: float, find_fault: Callable[[], str]
    ) -> None:
        self._printer = Printer(sys.stdout, prefix=prefix)
        self._printing = threading.Lock()
        self._kill_after = kill_after
        self._find_fault = find_fault
        #: The keepers that run, and the threads that print their output.
        self._running: dict[str, tuple[BaseProcess, threading.Thread]] = {}
        self._returncode: int | None = None
        self._stop_requested = False
        self._kill_at: float | None = None

    def run(self, children: Sequence[Child], announce: Callable[[], str]) -> int:
        """Run until all commands have ended; see `supervise`."""
        names = ("system", *(child.name for child in children))
        self._printer.width = max(map(len, names))
        with self._handling_signals() as signals:
            try:
                self._start_all(children)
                threading.Thread(
                    target=self._announce, args=(announce,), daemon=True
                ).start()
                while self._running:
                    self._wait(signals)
            finally:
                for process, _ in self._running.values():
                    process.terminate()
        return self._returncode or 0

    def _wait(self, signals: int) -> None:
        """Wait until a child ends or a signal arrives, for a moment; handle it."""
        ends = [process.sentinel for process, _ in self._running.values()]
        seconds = _POLL_INTERVAL if self._stop_requested else _LOOK_INTERVAL
        ready = wait([*ends, signals], seconds)
        if signals in ready:
            os.read(signals, 1024)
        self._handle_ended(ready)
        if not self._stop_requested and (fault := self._find_fault()):
            self._note(fault)
            self._request_stop(1)
        if self._stop_requested:
            self._stop_all()

    def _announce(self, announce: Callable[[], str]) -> None:
        try:
            text = announce()
        except NotReady as exc:
            self._note(str(exc))
            self._request_stop(1)
            return
        for line in text.splitlines():
            self._note(line)

    def _start_all(self, children: Sequence[Child]) -> None:
        for child, colour in zip(children, get_colours(), strict=False):
            reader, writer = _context.Pipe(duplex=False)
            arguments = (child, writer, self._kill_after)
            process = _context.Process(target=keep, args=arguments, daemon=True)
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
    def _handling_signals(self) -> Iterator[int]:
        """Handle stop signals; yield a descriptor that is readable after each."""

        def handle(signum: int, frame: FrameType | None) -> None:
            self._request_stop(0)

        # Ignored signals stay ignored: nohup, background jobs of a shell.
        previous = {s: signal.getsignal(s) for s in _STOP_SIGNALS}
        handled = [s for s in _STOP_SIGNALS if previous[s] is not signal.SIG_IGN]
        with ExitStack() as stack:
            for signum in handled:
                stack.callback(signal.signal, signum, previous[signum])
                signal.signal(signum, handle)
            reader, writer = os.pipe()
            for descriptor in (reader, writer):
                os.set_blocking(descriptor, False)
                stack.callback(os.close, descriptor)
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))
            yield reader


def _kill_group(keeper: BaseProcess) -> None:
    # macOS: PermissionError if only zombies are left.
    with suppress(ProcessLookupError, PermissionError):
        if keeper.pid:
            os.killpg(keeper.pid, signal.SIGKILL)
