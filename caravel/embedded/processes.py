"""Child processes that end with us, and detection of those that did not."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from caravel.embedded.errors import EmbeddedError

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL = 0.02


def die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn`: the kernel sends the child this signal when we die.

    "We" is the thread that starts the child: use the main thread, or one that lives
    as long as the process. Returns None on kernels without this feature (macOS).
    """
    if _LIBC is None:
        return None
    libc, parent = _LIBC, os.getpid()

    def preexec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:  # the parent died before prctl()
            os._exit(1)

    return preexec


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, if the kernel supports it.

    This process then has to wait for them: process 1 of a container may never do so.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


@dataclass(frozen=True)
class ServiceUser:
    """User that runs the servers: the current one, or for root an unprivileged one."""

    uid: int
    gid: int

    @classmethod
    def for_data(cls, data: Path) -> "ServiceUser":
        """Return the current user; for root, the owner of existing data or `nobody`."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if data.exists() and (status := data.stat()).st_uid != 0:
            return cls(status.st_uid, status.st_gid)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    def make_directory(self, path: Path) -> None:
        """Create a directory that only this user can enter, unless it exists."""
        if path.exists():
            return
        path.mkdir(mode=0o700)
        if os.geteuid() != self.uid:
            os.chown(path, self.uid, self.gid)

    def prefix(self, signum: signal.Signals) -> list[str]:
        """Return the command prefix that switches to this user.

        `signum` is the parent-death signal. Raises EmbeddedError without setpriv.
        """
        if os.geteuid() == self.uid:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise EmbeddedError(
                "PostgreSQL refuses to run as root, and setpriv (util-linux), which"
                " would change the user, is missing: run as an ordinary user."
            )
        # DAC_OVERRIDE to enter closed directories: the checkout may be under /root.
        rights = "-all,+dac_override"
        return [
            setpriv,
            # Again, since the kernel clears it when the user changes.
            f"--pdeathsig={signum.name.removeprefix('SIG')}",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            f"--bounding-set={rights}",
            f"--inh-caps={rights}",
            f"--ambient-caps={rights}",
        ]


@dataclass
class Server:
    """Running server; its output goes to the log."""

    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    owner: int = field(default_factory=os.getpid)

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        account: ServiceUser,
        log: Path,
        dies_by: signal.Signals,
    ) -> "Server":
        """Start the command in its own session, so that Ctrl-C does not reach it."""
        with log.open("ab") as output:
            start = output.tell()
            process = subprocess.Popen(
                [*account.prefix(dies_by), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment(),
                start_new_session=True,
                preexec_fn=die_with_parent(dies_by),
            )
        return cls(process, log, start)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_until(self, answers: Callable[[], bool], *, timeout: float) -> None:
        """Wait until it answers. Raises EmbeddedError if it ends or is too slow."""
        deadline = time.monotonic() + timeout
        while not answers():
            if not self.alive:
                raise EmbeddedError(self.with_output("ended during its start"))
            if time.monotonic() > deadline:
                reason = f"does not answer after {timeout:.0f} s"
                raise EmbeddedError(self.with_output(reason))
            time.sleep(_POLL)

    def stop(self, *signals: signal.Signals, timeout: float) -> None:
        """Send the signals one after the other, then SIGKILL, until it has ended.

        Waits `timeout` seconds after each. Does nothing in a fork of the owner.
        """
        if os.getpid() != self.owner:
            return
        for signum in (*signals, signal.SIGKILL):
            if self.alive:
                self.process.send_signal(signum)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                continue
            return

    def output(self) -> str:
        """Return the output since the start."""
        with self.log.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def with_output(self, reason: str) -> str:
        """Return the server's name, a reason, and the end of its log."""
        last_lines = "\n  ".join(self.output().splitlines()[-10:])
        return f"{self.log.stem} {reason}. End of {self.log}:\n  {last_lines}"


def runs_with(pid: int, argument: Path) -> bool:
    """Return whether the process runs and has this path as an argument.

    A pid from a file may belong to an unrelated process by now, or to a zombie.
    """
    if _LIBC is not None:
        return os.fsencode(argument) in _linux_arguments(pid)
    return str(argument) in _ps(pid)


def describe(pid: int) -> str:
    """Return "process <pid>", with the start of its command line if it still runs."""
    if _LIBC is not None:
        command = os.fsdecode(b" ".join(_linux_arguments(pid))).strip()
    else:
        command = _ps(pid)
    return f"process {pid} ({command[:80]})" if command else f"process {pid}"


def stop_orphan(pid: int, argument: Path, *signals: signal.Signals) -> None:
    """Stop a server that outlived its owner, if the pid still belongs to it."""
    for signum in (*signals, signal.SIGKILL):
        deadline = time.monotonic() + 5
        with suppress(ProcessLookupError):
            if runs_with(pid, argument):
                os.kill(pid, signum)
        while runs_with(pid, argument):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)


def read_pid(path: Path) -> int | None:
    """Return the process id on the first line of a file, or None."""
    try:
        first_line = path.read_text().split("\n", 1)[0]
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return int(first_line) if first_line.strip().isdecimal() else None


def _linux_arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _ps(pid: int) -> str:
    process = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    # For a zombie ps prints "(postgres)" or "<defunct>".
    return process.stdout.strip()


def environment() -> dict[str, str]:
    """Return the environment without PG… variables, and with the C locale."""
    # PostgreSQL would obey PGDATA, PGPORT and the like.
    env = {k: value for k, value in os.environ.items() if not k.startswith("PG")}
    return {**env, "LC_ALL": "C"}
