"""Reconciliations by production's worker and command. Needs django.setup()."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.support.memory import MEGABYTE
from benchmarks.support.server import Server
from billing.models import ReconciliationRun, SubscriptionSync
from billing.services.reconciliation.reconcile import begin_run
from tenants.models import Tenant

ROOT = Path(__file__).resolve().parents[3]
#: Seconds to wait for a run and the syncs after it.
TIMEOUT = 900.0
_POLL = 0.05


@dataclass(frozen=True)
class Measurement:
    """One reconciliation, and the syncs of the tenants that it found."""

    seconds: float
    requests: int
    found: int
    #: Seconds of CPU time of the sandbox.
    sandbox_cpu: float


@dataclass(frozen=True)
class Command:
    """One run of `manage.py reconcile`; times in seconds, memory in megabytes."""

    seconds: float
    memory: float
    cpu: float
    server_cpu: float


@contextmanager
def running_worker(env: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run the Procfile's worker; it has connected, and made a reconciliation."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("worker:")]
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [sys.executable, "-m", *shlex.split(line.partition(":")[2])],
            cwd=ROOT,
            env=dict(env),
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _run()
            yield
        finally:
            process.terminate()


def reconcile(sandbox: Server) -> Measurement:
    """Measure from the message to the worker until no tenant needs a sync."""
    _clear_requests(sandbox)
    cpu, started = cpu_of(sandbox.process.pid), time.perf_counter()
    run = _run()
    seconds = time.perf_counter() - started
    return Measurement(
        seconds=seconds,
        requests=len(_requests(sandbox)),
        found=run.stale_tenants,
        sandbox_cpu=cpu_of(sandbox.process.pid) - cpu,
    )


def _run() -> ReconciliationRun:
    run = begin_run()
    deadline = time.monotonic() + TIMEOUT
    unfinished = ReconciliationRun.objects.filter(pk=run.pk).unfinished()
    while unfinished.exists() or SubscriptionSync.objects.stale().exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the reconciliation does not end")
        time.sleep(_POLL)
    run.refresh_from_db()
    return run


def drifted_at(sandbox: Server) -> int:
    """Return the number of subscriptions that differ from their tenants' relays."""
    wire, found, has_more, query = sandbox.wire(), 0, True, "limit=100"
    while has_more:
        page = json.loads(wire.get(f"/v1/subscriptions?{query}"))
        quantities = [each["items"]["data"][0]["quantity"] for each in page["data"]]
        found += sum(quantity != 1 for quantity in quantities)
        has_more = page["has_more"]
        query = f"limit=100&starting_after={page['data'][-1]['id']}"
    wire.close()
    return found


def run_command(env: Mapping[str, str], stripe: Server) -> Command:
    """Run `manage.py reconcile`. Raises RuntimeError if a tenant is not in sync."""
    started, cpu = time.perf_counter(), cpu_of(stripe.process.pid)
    with subprocess.Popen(
        [sys.executable, "manage.py", "reconcile"],
        cwd=ROOT,
        env=dict(env),
        stdout=subprocess.DEVNULL,
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    run = ReconciliationRun.objects.latest("pk")
    complete = run.subscriptions == Tenant.objects.count() and not run.stale_tenants
    if process.returncode or not complete:
        raise RuntimeError(f"not in sync: {run.progress}, {run.drifted}")
    return Command(
        seconds=seconds,
        # Linux counts in kilobytes.
        memory=usage.ru_maxrss * 1024 / MEGABYTE,
        cpu=usage.ru_utime + usage.ru_stime,
        server_cpu=cpu_of(stripe.process.pid) - cpu,
    )


def set_latency(sandbox: Server, seconds: float) -> None:
    """Delay each answer of the sandbox."""
    _control(sandbox, "settings", {"latency": seconds})


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU time that a process has used."""
    # After the command, in parentheses: state is field 3, utime 14, stime 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _requests(sandbox: Server) -> list[object]:
    entries: list[object] = _control(sandbox, "requests")["data"]
    return entries


def _clear_requests(sandbox: Server) -> None:
    _control(sandbox, "requests", method="DELETE")


def _control(
    sandbox: Server, path: str, content: object = None, method: str | None = None
) -> dict[str, Any]:
    body = None if content is None else json.dumps(content).encode()
    request = Request(f"{sandbox.url}/_sandbox/{path}", data=body, method=method)
    request.add_header("Content-Type", "application/json")
    with urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
