"""Several processes as one: they start together, end together and leave no orphans.

Between us and each command stands a process of honcho's, which passes the output on.
Ours also notices when we are killed, and then ends the command and all its group.
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
_POLL = 0.1
_ORPHAN_PATIENCE = 5.0  # the servers are gone too: nothing is left to finish for
_KILLED_PATIENCE = 1.0
_CANNOT_RUN = 127  # what a shell answers
# A fork server would stand between us and our children, which watch their parent.
_context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)


@dataclass(frozen=True)
class Child:
    """A command with all of its environment; with `log`, output goes to that file."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path | None = None


def supervise(
    children: Sequence[Child], *, prefix: bool = True, kill_after: float = 10.0
) -> int:
    """Run the children until one of them ends or we are asked to stop; then stop all.

    Each gets SIGTERM and, `kill_after` seconds later, its whole process group SIGKILL.
    Call it from the main thread. Returns the exit code of the child that ended first,
    0 after Ctrl-C, SIGTERM or SIGHUP.
    """
    supervisor = _Supervisor(prefix=prefix, kill_after=kill_after)
    for child in children:
        supervisor.add(child)
    supervisor.loop()
    return supervisor.returncode or 0


def free_ports(preferred: Iterable[int]) -> list[int]:
    """Return the preferred ports of 127.0.0.1, a free one where somebody has it.

    All are held until the last is found, so that no two are the same.
    """
    with ExitStack() as held:
        probes = [held.enter_context(_listening(port)) for port in preferred]
        return [int(probe.getsockname()[1]) for probe in probes]


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


class _Process(Process):
    """The process between us and one command."""

    log: Path | None = None
    kill_after: float
    _child: subprocess.Popen[bytes]

    def run(
        self, events: "Queue[Message] | None" = None, ignore_signals: bool = False
    ) -> None:
        """Start the command, pass its output on and report its end."""
        self._events = events
        adopt_orphans()
        try:
            self._child = self._popen()
        except OSError as exc:
            self._send_message(f"cannot run {self.cmd[0]}: {exc.strerror}")
            self._report(os.getpid(), _CANNOT_RUN)
            return
        for signum in _STOP_SIGNALS:  # now: the child would have inherited it
            signal.signal(signum, signal.SIG_IGN)
        self._send_message({"pid": self._child.pid}, type="start")
        threading.Thread(target=self._end_when_orphaned, daemon=True).start()
        reader = threading.Thread(target=self._pass_lines_on, daemon=True)
        reader.start()
        self._child.wait()
        _end_group(self._child.pid, self.kill_after)
        # Not for ever: a process that left the group may hold the pipe.
        reader.join(_KILLED_PATIENCE)
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

    def _pass_lines_on(self) -> None:
        if self._child.stdout:
            for line in self._child.stdout:
                self._send_message(line)

    def _end_when_orphaned(self) -> None:
        supervisor = multiprocessing.parent_process()
        while supervisor and os.getppid() == supervisor.pid:
            time.sleep(_POLL)
        patience = min(self.kill_after, _ORPHAN_PATIENCE)
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(patience)
        _end_group(self._child.pid, patience)
        os._exit(1)  # without the lines that nobody reads any more


class _Supervisor(Manager):
    """Honcho's manager, but for how processes are started and stopped."""

    _process_ctor: type[_Process]

    def __init__(self, *, prefix: bool, kill_after: float) -> None:
        super().__init__(Printer(sys.stdout, prefix=prefix))
        self._process_ctor = _Process
        self._kill_after = kill_after
        self._asked = False
        self._stopping_since: float | None = None

    def add(self, child: Child) -> None:
        # Else Python would keep lines back when it does not write to a terminal.
        env = {"PYTHONUNBUFFERED": "1", **child.env}
        process = self.add_process(child.name, child.command, env=env)
        process.log = child.log
        process.kill_after = self._kill_after

    def loop(self) -> None:
        """Run until all have ended; see `supervise`."""
        with self._handling_signals():
            self._start()
            try:
                while not self._all_stopped():
                    self._take_event()
                    self._stop_if_due()
            finally:
                self.kill()

    def terminate(self) -> None:
        """Ask each that has not been asked; it may ask its own children itself."""
        for name, pid in self._to_signal("terminated"):
            self._system_print(f"stopping {name} (pid={pid})\n")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """End each that still runs, with its process group."""
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

    def _take_event(self) -> None:
        try:
            message = self.events.get(timeout=_POLL)
        except queue.Empty:
            self._notice_silent_ends()
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

    def _notice_silent_ends(self) -> None:
        """Take a process in between that was killed for the end of its child."""
        for name, state in self._processes.items():
            if "returncode" not in state and not state["process"].is_alive():
                if "pid" in state:
                    _signal_group(state["pid"], signal.SIGKILL)
                self._stopped(name, -signal.SIGKILL)

    def _stop_if_due(self) -> None:
        if not self._asked and not self._any_stopped():
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
            self._asked = True

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def ask(signum: int, frame: FrameType | None) -> None:
            self._asked = True
            if self.returncode is None:
                self.returncode = 0

        # One that is ignored stays so: nohup, or a shell's background job.
        former = {s: signal.getsignal(s) for s in _STOP_SIGNALS}
        handled = [s for s in _STOP_SIGNALS if former[s] is not signal.SIG_IGN]
        for signum in handled:
            signal.signal(signum, ask)
        try:
            yield
        finally:
            for signum in handled:
                signal.signal(signum, former[signum])


@contextmanager
def _output(log: Path | None) -> Iterator[int]:
    """Return what a command's output goes to: a pipe to us, or the end of a file."""
    if log is None:
        yield subprocess.PIPE
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        yield file.fileno()


def _end_group(group: int, patience: float) -> None:
    """End what is left of a process group whose leader has ended."""
    _signal_group(group, signal.SIGTERM)
    if _is_left(group, patience):
        _signal_group(group, signal.SIGKILL)
        _is_left(group, _KILLED_PATIENCE)


def _is_left(group: int, patience: float) -> bool:
    """Return whether anybody in the group lives on after so many seconds."""
    deadline = time.monotonic() + patience
    while True:
        with suppress(ChildProcessError):  # bury its dead, who count until then
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass
        if not _signal_group(group, 0):
            return False
        if time.monotonic() > deadline:
            return True
        time.sleep(_POLL / 5)


def _signal_group(group: int, signum: int) -> bool:
    """Return whether there was anybody to receive it."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        # macOS forbids it when only zombies are left.
        return False
    return True
