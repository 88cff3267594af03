"""Starting processes that do not outlive us, and recognising those that did."""

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
    as long as the process. Returns None where the kernel has no such thing (macOS).
    """
    if _LIBC is None:
        return None
    libc, parent = _LIBC, os.getpid()

    def preexec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return preexec


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, where the kernel can do it.

    They are ours to wait for then: process 1 of a container may never do so.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


@dataclass(frozen=True)
class ServiceUser:
    """Who runs the servers: ourselves, or, for root, somebody whom postgres accepts."""

    uid: int
    gid: int

    @classmethod
    def for_data(cls, data: Path) -> "ServiceUser":
        """Return the owner of existing data, so that root may run a user's checkout."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if data.exists() and (found := data.stat()).st_uid != 0:
            return cls(found.st_uid, found.st_gid)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    def make_directory(self, path: Path) -> None:
        """Create a directory that only this account may enter, if there is none."""
        if path.exists():
            return
        path.mkdir(mode=0o700)
        if os.geteuid() != self.uid:
            os.chown(path, self.uid, self.gid)

    def prefix(self, signum: signal.Signals) -> list[str]:
        """Return the command that becomes this account, dying as we asked.

        It keeps one right, to pass closed directories: the checkout may be in /root.
        The kernel forgets the death signal when the user changes.
        """
        if os.geteuid() == self.uid:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise EmbeddedError(
                "PostgreSQL refuses to run as root, and setpriv (util-linux), which"
                " would change the user, is missing: run as an ordinary user."
            )
        rights = "-all,+dac_override"
        return [
            setpriv,
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
    """A server that we started; its output goes to the log."""

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
        """Start the command in a session of its own, so that Ctrl-C passes it by."""
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
        """Wait for the first answer. Raises EmbeddedError if it dies or is too slow."""
        deadline = time.monotonic() + timeout
        while not answers():
            if not self.alive:
                raise EmbeddedError(self._obituary("ended at its start"))
            if time.monotonic() > deadline:
                raise EmbeddedError(self._obituary(f"is silent after {timeout:.0f} s"))
            time.sleep(_POLL)

    def stop(self, *signals: signal.Signals, patience: float) -> None:
        """Send the signals one after the other, then SIGKILL, until it is gone.

        Does nothing in a fork of the process that started it.
        """
        if os.getpid() != self.owner:
            return
        for signum in (*signals, signal.SIGKILL):
            if self.alive:
                self.process.send_signal(signum)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            return

    def output(self) -> str:
        """Return what it has written since it was started."""
        with self.log.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def _obituary(self, fate: str) -> str:
        last_lines = "\n  ".join(self.output().splitlines()[-10:])
        return f"{self.log.stem} {fate}. Last of {self.log}:\n  {last_lines}"


def runs_with(pid: int, argument: Path) -> bool:
    """Return whether the process lives and was given this path, and so is ours.

    A pid in a file may belong to a stranger by now, or to a zombie.
    """
    if _LIBC is not None:
        return os.fsencode(argument) in _linux_arguments(pid)
    return str(argument) in _ps(pid)


def describe(pid: int) -> str:
    """Return the process and the beginning of its command line, if it still runs."""
    if _LIBC is not None:
        command = os.fsdecode(b" ".join(_linux_arguments(pid))).strip()
    else:
        command = _ps(pid)
    return f"process {pid} ({command[:80]})" if command else f"process {pid}"


def stop_orphan(pid: int, argument: Path, *signals: signal.Signals) -> None:
    """Stop a server that outlived its owner, if this pid still is one."""
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
    """Return the number on the first line of a pid file, None if there is none."""
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
    found = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    # A zombie is shown as "(postgres)" or "<defunct>".
    return found.stdout.strip()


def environment() -> dict[str, str]:
    """Return ours without PGDATA, PGPORT and the like, which postgres would obey."""
    kept = {k: value for k, value in os.environ.items() if not k.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
