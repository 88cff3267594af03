"""The whole system on one host: production's commands, and the stand-ins."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from caravel.embedded.processes import die_with_parent
from sandbox.demo.system import System, processes

ROOT = Path(__file__).resolve().parents[3]
_BIN = Path(sys.executable).parent
_STAND_INS = ("stripe", "lightning", "zooid")
_STOP_TIMEOUT = 20.0
#: Seconds per tick of the CPU times in /proc.
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def environment(system: System) -> dict[str, str]:
    """Return the environment of production's processes, with the test's secrets."""
    changes = {
        "CARAVEL_ENV": "test",
        "DEBUG": "false",
        "PATH": f"{_BIN}:{system.env['PATH']}",
        # The default with a live key.
        "STRIPE_MAX_REQUESTS_PER_SECOND": "40",
    }
    return {**system.env, **changes}


def commands(system: System) -> dict[str, list[str]]:
    """Return the stand-ins' commands, and those of the Procfile."""
    stand_ins = {
        child.name: list(child.command)
        for child in processes(system)
        if child.name in _STAND_INS
    }
    # Production's processes would not follow the clock.
    position = stand_ins["stripe"].index("--clock-file")
    del stand_ins["stripe"][position : position + 2]
    lines = (ROOT / "Procfile").read_text().splitlines()
    parts = (line.partition(":") for line in lines)
    caravel = {name: shlex.split(command) for name, _, command in parts}
    del caravel["release"]
    caravel["web"] += ["--bind", f"127.0.0.1:{system.ports['PORT']}"]
    return {**stand_ins, **caravel}


class Running:
    """The running processes by name, and the CPU time that they have used."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._started = self._used()

    def restart_clock(self) -> None:
        """Count CPU time from now on."""
        self._started = self._used()

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each, with its children, since the last restart."""
        used = self._used()
        return {name: used[name] - self._started[name] for name in self._pids}

    def _used(self) -> dict[str, float]:
        tree = _children()
        return {name: _tree_seconds(pid, tree) for name, pid in self._pids.items()}


@contextmanager
def running(system: System, logs: Path) -> Iterator[Running]:
    """Run everything for the length of the block."""
    logs.mkdir()
    env = environment(system)
    with ExitStack() as stack:
        pids = {
            "postgres": _server(system.var / "postgres" / "postmaster.pid"),
            "valkey": _server(system.var / "valkey" / "valkey.pid"),
        }
        for name, command in commands(system).items():
            log = stack.enter_context((logs / f"{name}.log").open("ab"))
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
            pids[name] = process.pid
            stack.callback(_stop, process)
        yield Running(pids)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _server(file: Path) -> int:
    """Return the process id in the first line of a server's file."""
    return int(file.read_text().split()[0])


def _children() -> dict[int, list[int]]:
    """Return the children of all processes of this machine."""
    tree: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        if fields := _stat(path):
            tree.setdefault(int(fields[1]), []).append(int(path.parent.name))
    return tree


def _tree_seconds(pid: int, tree: Mapping[int, list[int]]) -> float:
    """Return the CPU time of a process and all its children, also of ended ones."""
    fields = _stat(Path(f"/proc/{pid}/stat"))
    own = sum(map(int, fields[11:15])) * _TICK if fields else 0.0
    return own + sum(_tree_seconds(child, tree) for child in tree.get(pid, ()))


def _stat(path: Path) -> list[str]:
    """Return the fields from the state on, or none if the process has ended."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
