"""Several processes as one: they start together, stop together, leave no orphans.

Between the supervisor and each command is a process of honcho, which forwards the
output. `_Process` also notices when the supervisor is killed, and then stops the
command and its process group.
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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType

from honcho.manager import Manager
from honcho.printer import Message, Printer
from honcho.process import Process

from caravel.embedded.processes import adopt_orphans, die_with_parent

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_INTERVAL = 0.1
_ORPHAN_TIMEOUT = 5.0  # short: the servers are gone too, work cannot be finished
_KILL_TIMEOUT = 1.0
_COMMAND_NOT_FOUND = 127  # the exit status of a shell
# Not forkserver: it would become the parent of the children, which watch their parent.
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
    supervisor = _Supervisor(prefix=prefix, kill_after=kill_after)
    for child in children:
        supervisor.add(child)
    supervisor.loop()
    return supervisor.returncode or 0


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


class _Process(Process):
    """The process between the supervisor and one command."""

    log: Path | None = None
    kill_after: float
    _child: subprocess.Popen[bytes]

    def run(
        self, events: "Queue[Message] | None" = None, ignore_signals: bool = False
    ) -> None:
        """Start the command, forward its output and report its end."""
        self._events = events
        adopt_orphans()
        try:
            self._child = self._popen()
        except OSError as exc:
            self._send_message(f"cannot run {self.cmd[0]}: {exc.strerror}")
            self._report(os.getpid(), _COMMAND_NOT_FOUND)
            return
        for signum in _STOP_SIGNALS:  # only now: the child would have inherited it
            signal.signal(signum, signal.SIG_IGN)
        self._send_message({"pid": self._child.pid}, type="start")
        threading.Thread(target=self._stop_when_orphaned, daemon=True).start()
        reader = threading.Thread(target=self._forward_output, daemon=True)
        reader.start()
        self._child.wait()
        _stop_group(self._child.pid, self.kill_after)
        # With a timeout: a process that left the group may hold the pipe open.
        reader.join(_KILL_TIMEOUT)
        self._send_message({"returncode": self._child.returncode}, type="stop")

    def _report(self, pid: int, returncode: int) -> None:
        self._send_message({"pid": pid}, type="start")
        self._send_message({"returncode": returncode}, type="stop")

    def _popen(self) -> subprocess.Popen[bytes]:
        with _output(self.log) as output:
            return subprocess.Popen(
                self.cmd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    def _forward_output(self) -> None:
        if self._child.stdout:
            for line in self._child.stdout:
                self._send_message(line)

    def _stop_when_orphaned(self) -> None:
        supervisor = multiprocessing.parent_process()
        while supervisor and os.getppid() == supervisor.pid:
            time.sleep(_POLL_INTERVAL)
        timeout = min(self.kill_after, _ORPHAN_TIMEOUT)
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout)
        _stop_group(self._child.pid, timeout)
        os._exit(1)  # not exit(): it would wait for output that is no longer read


class _Supervisor(Manager):
    """Honcho's manager with its own way of starting and stopping processes."""

    _process_ctor: type[_Process]

    def __init__(self, *, prefix: bool, kill_after: float) -> None:
        super().__init__(Printer(sys.stdout, prefix=prefix))
        self._process_ctor = _Process
        self._kill_after = kill_after
        self._stop_requested = False
        self._stopping_since: float | None = None

    def add(self, child: Child) -> None:
        # Python buffers its output if that is not a terminal.
        env = {"PYTHONUNBUFFERED": "1", **child.env}
        process = self.add_process(child.name, child.command, env=env)
        process.log = child.log
        process.kill_after = self._kill_after

    def loop(self) -> None:
        """Run until all children have ended; see `supervise`."""
        with self._handling_signals():
            self._start()
            try:
                while not self._all_stopped():
                    self._handle_event()
                    self._stop_if_due()
            finally:
                self.kill()

    def terminate(self) -> None:
        """Send SIGTERM once to each running child, which may stop its own children."""
        for name, pid in self._to_signal("terminated"):
            self._system_print(f"stopping {name} (pid={pid})\n")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the process group of each running child."""
        for name, pid in self._to_signal("killed"):
            self._system_print(f"killing {name} (pid={pid})\n")
            _signal_group(pid, signal.SIGKILL)

    def _to_signal(self, mark: str) -> Iterator[tuple[str, int]]:
        for name, state in self._processes.items():
            if "pid" in state and "returncode" not in state and mark not in state:
                state[mark] = True
                yield name, state["pid"]

    def _start(self) -> None:
        for name, state in self._processes.items():
            state["process"] = _context.Process(
                name=name, target=state["obj"].run, args=(self.events, True)
            )
            state["process"].start()

    def _handle_event(self) -> None:
        try:
            message = self.events.get(timeout=_POLL_INTERVAL)
        except queue.Empty:
            self._detect_killed()
            return
        if message.type == "line":
            self._write(message)
        elif message.type == "start":
            self._started(str(message.name), message.data["pid"])
        elif message.type == "stop":
            self._stopped(str(message.name), message.data["returncode"])

    def _started(self, name: str, pid: int) -> None:
        self._processes[name]["pid"] = pid
        self._system_print(f"{name} started (pid={pid})\n")

    def _stopped(self, name: str, returncode: int) -> None:
        self._processes[name]["returncode"] = returncode
        self._system_print(f"{name} stopped (rc={returncode})\n")
        if self.returncode is None:
            # Killed by signal n: 128 + n, as in a shell.
            self.returncode = returncode if returncode >= 0 else 128 - returncode

    def _detect_killed(self) -> None:
        """Handle intermediate processes that were killed before reporting an end."""
        for name, state in self._processes.items():
            if "returncode" not in state and not state["process"].is_alive():
                if "pid" in state:
                    _signal_group(state["pid"], signal.SIGKILL)
                self._stopped(name, -signal.SIGKILL)

    def _stop_if_due(self) -> None:
        if not self._stop_requested and not self._any_stopped():
            return
        now = time.monotonic()
        self._stopping_since = self._stopping_since or now
        self.terminate()
        if now - self._stopping_since > self._kill_after:
            self.kill()

    def _system_print(self, data: str) -> None:
        if self._printer.prefix:
            with suppress(OSError):  # the terminal is gone
                super()._system_print(data)

    def _write(self, message: Message) -> None:
        try:
            self._printer.write(message)
        except OSError:
            self._stop_requested = True

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def request_stop(signum: int, frame: FrameType | None) -> None:
            self._stop_requested = True
            if self.returncode is None:
                self.returncode = 0

        # Ignored signals stay ignored: nohup, background jobs of a shell.
        previous = {s: signal.getsignal(s) for s in _STOP_SIGNALS}
        handled = [s for s in _STOP_SIGNALS if previous[s] is not signal.SIG_IGN]
        for signum in handled:
            signal.signal(signum, request_stop)
        try:
            yield
        finally:
            for signum in handled:
                signal.signal(signum, previous[signum])


@contextmanager
def _output(log: Path | None) -> Iterator[int]:
    """Return the target of a command's output: a pipe to us, or a log file."""
    if log is None:
        yield subprocess.PIPE
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        yield file.fileno()


def _stop_group(group: int, timeout: float) -> None:
    """Stop what is left of a process group whose leader has ended."""
    _signal_group(group, signal.SIGTERM)
    if _outlives(group, timeout):
        _signal_group(group, signal.SIGKILL)
        _outlives(group, _KILL_TIMEOUT)


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
