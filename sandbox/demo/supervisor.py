"""Several processes as one: they start together, stop together, leave no orphans.

Between the supervisor and each command is a keeper, a process that forwards the output
and stops the command with its process group, also when the supervisor is killed.
"""

import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType
from typing import Any

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from caravel.embedded.processes import adopt_orphans, die_with_parent

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_INTERVAL = 0.1
_ORPHAN_TIMEOUT = 5.0  # short: the servers are gone too, work cannot be finished
_KILL_TIMEOUT = 1.0
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
    return _Supervisor(children, prefix=prefix, kill_after=kill_after).run()


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


@dataclass
class _Keeper:
    """The process between the supervisor and one command."""

    child: Child
    colour: str
    kill_after: float
    events: "Queue[Message]"

    def run(self) -> None:
        """Start the command, forward its output and report its end."""
        adopt_orphans()
        try:
            self._process = self._popen()
        except OSError as exc:
            self._send("line", f"cannot run {self.child.command[0]}: {exc.strerror}")
            self._send("stop", _COMMAND_NOT_FOUND)
            return
        self._stop_requested = threading.Event()
        for signum in _STOP_SIGNALS:  # only now: the command would have inherited it
            signal.signal(signum, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self._stop_requested.set())
        self._send("start", self._process.pid)
        threading.Thread(target=self._stop_on_request, daemon=True).start()
        reader = threading.Thread(target=self._forward_output, daemon=True)
        reader.start()
        returncode = self._process.wait()
        _stop_group(self._process.pid, self.kill_after)
        # With a timeout: a process that left the group may hold the pipe open.
        reader.join(_KILL_TIMEOUT)
        # Killed by signal n: 128 + n, as in a shell.
        self._send("stop", returncode if returncode >= 0 else 128 - returncode)

    def _popen(self) -> subprocess.Popen[bytes]:
        log = self.child.log
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") if log else nullcontext(subprocess.PIPE) as output:
            return subprocess.Popen(
                self.child.command,
                # Python buffers its output if that is not a terminal.
                env={"PYTHONUNBUFFERED": "1", **self.child.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    def _forward_output(self) -> None:
        for line in self._process.stdout or ():
            self._send("line", line)

    def _stop_on_request(self) -> None:
        """Stop the command after SIGTERM or the supervisor's end."""
        supervisor = multiprocessing.parent_process()
        while not self._stop_requested.wait(_POLL_INTERVAL):
            if supervisor and os.getppid() != supervisor.pid:
                self.kill_after = min(self.kill_after, _ORPHAN_TIMEOUT)
                self.events.cancel_join_thread()  # they are no longer read
                break
        self._send("note", f"stopping {self.child.name}")
        self._process.terminate()
        time.sleep(self.kill_after)
        self._send("note", f"killing {self.child.name}")
        _signal_group(self._process.pid, signal.SIGKILL)

    def _send(self, type: str, data: Any) -> None:
        now, name = datetime.now(), self.child.name
        self.events.put(Message(type, data, now, name, self.colour))


class _Supervisor:
    """Starts and stops the keepers, and prints what they send."""

    def __init__(
        self, children: Sequence[Child], *, prefix: bool, kill_after: float
    ) -> None:
        self._events: Queue[Message] = _context.Queue()
        colours = get_colours()
        self._processes = {
            child.name: _context.Process(
                target=_Keeper(child, next(colours), kill_after, self._events).run
            )
            for child in children
        }
        self._printer = Printer(sys.stdout, prefix=prefix)
        self._printer.width = max(map(len, ("system", *self._processes)))
        #: The commands' process ids, once they run.
        self._pids: dict[str, int] = {}
        self._ended: set[str] = set()
        self._returncode: int | None = None
        self._stop_requested = False

    def run(self) -> int:
        """Run until all commands have ended; see `supervise`."""
        with self._handling_signals():
            try:
                for process in self._processes.values():
                    process.start()
                while len(self._ended) < len(self._processes):
                    self._handle_event()
                    if self._stop_requested or self._ended:
                        self._stop_keepers()
            finally:
                self._stop_keepers()
        for process in self._processes.values():
            process.join(_KILL_TIMEOUT)
        return self._returncode or 0

    def _stop_keepers(self) -> None:
        # Repeated until they end: a new keeper does not handle the signal yet.
        for process in self._processes.values():
            if process.is_alive():
                process.terminate()

    def _handle_event(self) -> None:
        try:
            message = self._events.get(timeout=_POLL_INTERVAL)
        except queue.Empty:
            self._detect_killed()
            return
        name = str(message.name)
        match message.type:
            case "line":
                self._print(message)
            case "note":
                self._note(message.data)
            case "start":
                self._pids[name] = message.data
                self._note(f"{name} started (pid={message.data})")
            case "stop":
                self._stopped(name, message.data)

    def _stopped(self, name: str, returncode: int) -> None:
        self._ended.add(name)
        self._note(f"{name} stopped (rc={returncode})")
        if self._returncode is None:
            self._returncode = returncode

    def _detect_killed(self) -> None:
        """Handle keepers that were killed before reporting an end."""
        for name, process in self._processes.items():
            if process.exitcode and name not in self._ended:
                if name in self._pids:
                    _signal_group(self._pids[name], signal.SIGKILL)
                self._stopped(name, 128 + abs(process.exitcode))

    def _note(self, text: str) -> None:
        if self._printer.prefix:
            self._print(Message("line", text, datetime.now(), "system", None))

    def _print(self, message: Message) -> None:
        try:
            self._printer.write(message)
        except OSError:  # the terminal is gone
            self._stop_requested = True

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def request_stop(signum: int, frame: FrameType | None) -> None:
            self._stop_requested = True
            if self._returncode is None:
                self._returncode = 0

        # Ignored signals stay ignored: nohup, background jobs of a shell.
        previous = {s: signal.getsignal(s) for s in _STOP_SIGNALS}
        handled = [s for s in _STOP_SIGNALS if previous[s] is not signal.SIG_IGN]
        with ExitStack() as stack:
            for signum in handled:
                stack.callback(signal.signal, signum, previous[signum])
                signal.signal(signum, request_stop)
            yield


def _stop_group(group: int, timeout: float) -> None:
    """Stop what is left of a process group whose leader has ended."""
    for signum, limit in ((signal.SIGTERM, timeout), (signal.SIGKILL, _KILL_TIMEOUT)):
        _signal_group(group, signum)
        if not _outlives(group, limit):
            return


def _outlives(group: int, timeout: float) -> bool:
    """Return whether a process of the group is still alive after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        with suppress(ChildProcessError):  # reap zombies, which count as members
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass
        if not _signal_group(group, 0):
            return False
        if time.monotonic() > deadline:
            return True
        time.sleep(_POLL_INTERVAL / 5)


def _signal_group(group: int, signum: int) -> bool:
    """Send a signal to a process group; return whether it has members."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        # macOS: PermissionError if only zombies are left.
        return False
    return True
