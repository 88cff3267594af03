"""CPU time and memory of all processes of a system, from Linux's /proc."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
#: Names of processes by a pattern of their command; others belong to their parent's.
NAMES = {
    "postgresql": r"/postgres\b",
    "valkey": r"valkey-server",
    "stripe": r"sandbox\.stripe",
    "lightning": r"sandbox\.lightning",
    "zooid": r"sandbox\.zooid",
    "web": r"gunicorn",
    "worker": r"celery.* worker@",
    "network": r"celery.* network@",
    "beat": r"celery.* beat",
    "supervisor": r"sandbox\.demo\.run",
}
_TICKS = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Process:
    """A process: its id, its name in NAMES, and what it has used."""

    pid: int
    name: str
    #: Seconds of CPU time, without those of its children.
    cpu: float
    #: Memory in MB: its own, and its share of what it shares (PSS).
    memory: float


def read_tree(root: int) -> list[Process]:
    """Return the process with this id and all its descendants."""
    children: dict[int, list[int]] = {}
    for path in PROC.glob("[0-9]*"):
        if stat := _stat(int(path.name)):
            children.setdefault(int(stat[1]), []).append(int(path.name))
    return list(_read(root, "supervisor", children))


def _read(pid: int, parent: str, children: dict[int, list[int]]) -> Iterator[Process]:
    stat = _stat(pid)
    if stat is None:
        return
    command = _text(pid, "cmdline").replace("\0", " ")
    found = (name for name, text in NAMES.items() if re.search(text, command))
    name = next(found, parent)
    pss = _PSS.search(_text(pid, "smaps_rollup"))
    cpu = (int(stat[11]) + int(stat[12])) / _TICKS
    yield Process(pid, name, cpu, int(pss[1]) / 1024 if pss else 0.0)
    for child in children.get(pid, []):
        yield from _read(child, name, children)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name; None if it has ended."""
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html; a name may have ")".
    text = _text(pid, "stat")
    return text.rpartition(") ")[2].split() if text else None


def _text(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
