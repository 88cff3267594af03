"""The web servers that are compared: one server, one PostgreSQL, three applications."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.db import connection

from benchmarks.support.webhooks.cpu import cpu_of
from benchmarks.support.webhooks.deliveries import Deliveries
from caravel.tests.support.web_server import WebServer, command, running

ROOT = Path(__file__).resolve().parents[3]
DJSTRIPE_PYTHON = ROOT / "benchmarks" / "venvs" / "djstripe" / "bin" / "python"
_PARTS = "benchmarks.support.webhooks"
#: Seconds after which a web process hangs.
_TIMEOUT = 1_800


@dataclass
class Candidate:
    """A running web server, the path of its webhook, and what it has answered."""

    name: str
    web: WebServer
    path: str
    #: One for each turn.
    turns: list[Deliveries] = field(default_factory=list)

    @property
    def total(self) -> Deliveries:
        """All turns as one."""
        total = Deliveries()
        for turn in self.turns:
            total.durations += turn.durations
            total.statuses += turn.statuses
            total.elapsed += turn.elapsed
            total.cpu += turn.cpu
        return total

    def measure(self, requests: list[bytes]) -> Deliveries:
        """Send requests and measure."""
        measured, cpu = Deliveries(), cpu_of(self.web.process.pid)
        measured.send(self.web.port, requests)
        measured.cpu = cpu_of(self.web.process.pid) - cpu
        return measured


@contextmanager
def ours(log: Path) -> Iterator[Candidate]:
    """Run production's web process."""
    with running(command(), os.environ, log, seconds=_TIMEOUT) as web:
        yield Candidate("Caravel", web, "stripe/webhook")


@contextmanager
def floor(log: Path) -> Iterator[Candidate]:
    """Run the least that Django can do."""
    env = {**os.environ, **_database("floor")}
    # Imported only by the server: it configures Django.
    code = (
        f"from {_PARTS}.floor import TABLE, connection as c; c.cursor().execute(TABLE)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
    arguments = command(f"{_PARTS}.floor")
    with running(arguments, env, log, seconds=_TIMEOUT) as web:
        yield Candidate("floor", web, "webhook")


@contextmanager
def djstripe(log: Path) -> Iterator[Candidate]:
    """Run dj-stripe's view."""
    env = {**os.environ, **_database("djstripe"), "PYTHONPATH": str(ROOT)}
    python = str(DJSTRIPE_PYTHON)
    code = f"from {_PARTS}.djstripe import prepare; prepare()"
    path = subprocess.check_output([python, "-c", code], cwd=ROOT, env=env, text=True)
    arguments = [python, *command(f"{_PARTS}.djstripe")[1:]]
    with running(arguments, env, log, seconds=_TIMEOUT) as web:
        yield Candidate("dj-stripe", web, path.strip())


def _database(name: str) -> dict[str, str]:
    """Create a database; return its place for the modules of the others."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    parameters = connection.get_connection_params()
    return {
        "COMPARED_HOST": str(parameters["host"]),
        "COMPARED_USER": str(parameters["user"]),
        "COMPARED_NAME": name,
    }
