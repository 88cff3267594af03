"""Measures how long Stripe's webhooks wait while the web process is attacked.

    python -m benchmarks.attacks [--quick]

The web process is production's, on its own PostgreSQL and Valkey; the attackers are a
process of their own. Webhooks are sent over several connections at once, in turns with
and without the attack, since the machine may be busy at times. Another web process has
gunicorn's own threads instead of our server: both take webhooks in turns, too.

Exits with 1 if the 95th percentile under an attack is too large, compared with that
without, or if our server needs more CPU time for a webhook than gunicorn's threads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import quantiles

import stripe

from benchmarks.support.attackers import request
from benchmarks.support.results import Results
from caravel import dev_defaults, embedded
from caravel.tests.support.waiting import read_line
from caravel.tests.support.web_server import WebServer, command, running

#: How much longer the slowest webhooks may take under an attack.
MAX_RATIO = 3.0
#: The same of a quick run, whose 5 % slowest are few.
MAX_QUICK_RATIO = 6.0
#: CPU time of a webhook, compared with gunicorn's own threads.
MAX_WORK = 1.1
#: Webhooks on their way at once.
CLIENTS = 8
TURNS = 5
#: Seconds after which a web process hangs.
TIMEOUT = 900
ATTACKS = ("slow", "paths", "schema")
SECRET = "whsec_benchmark"
_numbers = count()


@dataclass
class Intake:
    """Measurements of webhooks, in seconds."""

    durations: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    cpu: float = 0.0

    @property
    def p95(self) -> float:
        return quantiles(self.durations, n=20)[-1]

    @property
    def rate(self) -> float:
        """Webhooks per second."""
        return len(self.durations) / self.elapsed

    @property
    def work(self) -> float:
        """CPU time of the web processes for a webhook."""
        return self.cpu / len(self.durations)

    def measure(self, web: WebServer, webhooks: int) -> None:
        """Send webhooks over CLIENTS connections at once."""
        bodies = [_event() for _ in range(webhooks)]
        started, cpu = time.perf_counter(), cpu_of_children(web.process.pid)
        with ThreadPoolExecutor(CLIENTS) as pool:
            self.durations += pool.map(partial(_deliver, web.port), bodies)
        self.elapsed += time.perf_counter() - started
        self.cpu += cpu_of_children(web.process.pid) - cpu


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer webhooks")
    quick = parser.parse_args().quick
    results, webhooks = Results("attacks", quick=quick), 50 if quick else 200
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        var = Path(directory)
        with servers(var) as env:
            compare_servers(results, env, var, webhooks)
            measure_attacks(results, env, var, webhooks)
    return results.finish()


@contextmanager
def servers(var: Path) -> Iterator[dict[str, str]]:
    """Run PostgreSQL and Valkey; yield the environment of a web process."""
    with embedded.servers(var, durable=False) as running_servers:
        env = {
            **dev_defaults.defaults(var),
            **os.environ,
            "CARAVEL_ENV": "test",
            "CARAVEL_VAR": str(var),
            "DATABASE_URL": running_servers.database_url,
            "REDIS_URL": running_servers.redis_url,
            "DEBUG": "false",
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "TRUSTED_PROXIES": "1",
        }
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        root = Path(__file__).resolve().parent.parent
        subprocess.run(migrate, cwd=root, env=env, check=True)
        yield env


def compare_servers(
    results: Results, env: dict[str, str], var: Path, webhooks: int
) -> None:
    """Record the CPU time of a webhook at both servers."""
    print(f"Webhooks, {CLIENTS} at once, stored by two web processes\n")
    threads = command("caravel.wsgi", "--worker-class", "gthread")
    with (
        running(threads, env, var / "gthread.log", seconds=TIMEOUT) as before,
        running(command(), env, var / "web.log", seconds=TIMEOUT) as web,
    ):
        ours, gthread = Intake(), Intake()
        for each in (before, web):
            Intake().measure(each, webhooks)  # imports, connections
        for _ in range(TURNS):
            gthread.measure(before, webhooks)
            ours.measure(web, webhooks)
    for name, intake in (("gthread", gthread), ("ours", ours)):
        results.add(f"{name}_rate", f"Webhooks, {name}", intake.rate, "per second")
        work = intake.work * 1_000
        results.add(f"{name}_cpu", f"CPU time of each, {name}", work, "ms")
    ratio = ours.work / gthread.work
    results.add("work", "CPU time, ours to gthread's", ratio, at_most=MAX_WORK)


def measure_attacks(
    results: Results, env: dict[str, str], var: Path, webhooks: int
) -> None:
    """Record the waits under each attack."""
    print("\nWebhooks under attack\n")
    with running(command(), env, var / "web.log", seconds=TIMEOUT) as web:
        Intake().measure(web, webhooks)
        for name in ATTACKS:
            measure_attack(results, name, web, webhooks)


def measure_attack(results: Results, name: str, web: WebServer, webhooks: int) -> None:
    """Record the waits with and without an attack."""
    calm, attacked = Intake(), Intake()
    for _ in range(TURNS):
        calm.measure(web, webhooks)
        with attack(name, web.port):
            attacked.measure(web, webhooks)
    results.add(f"{name}_calm", f"p95 before {name}", calm.p95 * 1_000, "ms")
    results.add(f"{name}_p95", f"p95 under {name}", attacked.p95 * 1_000, "ms")
    ratio = attacked.p95 / calm.p95
    label = f"p95 under {name}, times as long"
    limit = MAX_QUICK_RATIO if results.quick else MAX_RATIO
    results.add(f"{name}_ratio", label, ratio, at_most=limit)


def cpu_of_children(pid: int) -> float:
    """Return the seconds of CPU time that a process's children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for child in children:
        # After the command, in parentheses: state is field 3, utime 14, stime 15.
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def attack(name: str, port: int) -> Iterator[None]:
    """Attack for the length of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.attackers", name, str(port)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        read_line(process)
        try:
            yield
        finally:
            process.kill()


def _deliver(port: int, body: str) -> float:
    signature = stripe.WebhookSignature.generate_signature_header(body, SECRET)
    head = (
        "POST /stripe/webhook HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\nStripe-Signature: {signature}"
    )
    started = time.perf_counter()
    status = request(port, head, body.encode())
    if status != 200:
        raise RuntimeError(f"A webhook was answered with {status}.")
    return time.perf_counter() - started


def _event() -> str:
    """Return an event of a usual size, of a type that has no handler."""
    event = {
        "id": f"evt_{next(_numbers)}",
        "type": "benchmark",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": "in_1", "lines": ["x" * 60] * 60}},
    }
    return json.dumps(event)


if __name__ == "__main__":
    sys.exit(main())
