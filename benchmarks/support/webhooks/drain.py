"""Events that production's worker processes while they arrive, and afterwards."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import connection
from django.db.models import Max, Min

from benchmarks.support.webhooks.candidates import ROOT, Candidate
from benchmarks.support.webhooks.cpu import cpu_of
from benchmarks.support.webhooks.deliveries import Deliveries, request
from billing.models import StripeEvent

#: Seconds without any event processed after which the rest counts as lost.
_STALLED = 90.0


@dataclass
class Drained:
    """Events that were delivered and processed, and what each took."""

    intake: Deliveries
    delivered: int
    stored: int
    processed: int
    seconds: float
    #: Seconds of CPU time by the name of who used them.
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        """Events processed per second, from the first that arrived to the last."""
        return self.processed / self.seconds

    @property
    def cores(self) -> float:
        """Cores in use, on average."""
        return sum(self.cpu.values()) / self.seconds


@contextmanager
def worker(log: Path) -> Iterator[int]:
    """Run production's worker of webhooks; yield its process id."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("worker:")]
    words = shlex.split(line.partition(":")[2])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (
        log.open("ab") as output,
        subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            yield process.pid
        finally:
            process.terminate()


def drain(web: Candidate, bodies: Iterator[str], pids: dict[str, int]) -> Drained:
    """Deliver events while the worker runs, and wait until all are processed."""
    StripeEvent.objects.all().delete()
    pids = {**pids, "web": web.web.process.pid, "PostgreSQL": _postmaster()}
    before = {name: cpu_of(pid) for name, pid in pids.items()}
    intake = Deliveries()
    intake.send(web.web.port, (request(web.path, body) for body in bodies))
    _wait_until_processed()
    cpu = {name: cpu_of(pid) - before[name] for name, pid in pids.items()}
    processed = StripeEvent.objects.filter(status=StripeEvent.Status.PROCESSED)
    times = processed.aggregate(first=Min("received_at"), last=Max("processed_at"))
    return Drained(
        intake=intake,
        delivered=len(intake.durations),
        stored=StripeEvent.objects.count(),
        processed=processed.count(),
        seconds=(times["last"] - times["first"]).total_seconds(),
        cpu=cpu,
    )


def _wait_until_processed() -> None:
    left, changed_at = -1, time.monotonic()
    while time.monotonic() - changed_at < _STALLED:
        now_left = StripeEvent.objects.received().count()
        if not now_left:
            return
        if now_left != left:
            left, changed_at = now_left, time.monotonic()
        time.sleep(0.5)


def _postmaster() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    fields = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])
