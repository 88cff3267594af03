"""Resources that processes and the database have used."""

import os
from pathlib import Path

from django.db import connection

_TICKS = os.sysconf("SC_CLK_TCK")
_COMMITTED = "SELECT sum(xact_commit) FROM pg_stat_database"


def cpu_seconds(*pids: int) -> float:
    """Return the CPU time of processes so far."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: utime and stime.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def committed() -> int:
    """Return the number of the database's transactions so far."""
    with connection.cursor() as cursor:
        cursor.execute(_COMMITTED)
        return int(cursor.fetchone()[0])
