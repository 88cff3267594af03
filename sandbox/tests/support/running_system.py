"""The whole system of `make run` as processes, for tests."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import requests

from caravel import embedded
from caravel.tests.support.processes import bounded, default_signals
from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.demo.supervisor import free_ports
from sandbox.lightning.client import Control

ROOT = Path(__file__).resolve().parents[3]
NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"
_CONFIGURATION = re.compile(
    r"DATABASE_URL|REDIS_URL|DEBUG|STRIPE_|CARAVEL_|SECRET_KEY|APP_URL"
    r"|ROBOT_|BTC_|NWC_|LIGHTNING_|NOSTR_|SANDBOX_|BEAT_|ZOOID_"
)
#: Seconds after which a system, whose start alone takes ten, hangs.
SYSTEM_LIMIT = 10 * LIMIT
#: Ports that the kernel gives to no other process until the system listens.
_NOT_EPHEMERAL = range(15_000, 32_000)
_LAST_LINE = "Ctrl-C stops everything"
_PORTS = ("PORT", "STRIPE_PORT", "LIGHTNING_PORT", "NOSTR_PORT", "ZOOID_PORT")


def clean_environment(var: Path) -> dict[str, str]:
    """Return the environment without this test run's settings, with free ports."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not _CONFIGURATION.match(name)
    }
    preferred = random.sample(_NOT_EPHEMERAL, len(_PORTS))
    ports = dict(zip(_PORTS, map(str, free_ports(preferred)), strict=True))
    return {**others, **ports, "CARAVEL_VAR": str(var), "DEBUG": "true"}


@contextmanager
def running(var: Path, **env: str) -> Iterator["Run"]:
    """Start `make run`; yield the system after its first screen, kill it at the end."""
    log = var.with_name(f"{var.name}.log")
    with default_signals(), log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "sandbox.demo.run"],
            cwd=ROOT,
            env={**clean_environment(var), **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with process, bounded(process, seconds=SYSTEM_LIMIT):
        wait_until(
            lambda: _LAST_LINE in log.read_text() or process.poll() is not None,
            "the first screen",
            seconds=SYSTEM_LIMIT,
        )
        assert process.poll() is None, log.read_text()
        yield Run(var, process, log)


def processes_of(var: Path) -> list[str]:
    """Return the commands with the directory in their arguments or environment."""
    commands = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            content = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(var) in content and int(proc.name) != os.getpid():
            commands.append((proc / "cmdline").read_text().replace("\0", " "))
    return commands


def wait_until_gone(var: Path) -> None:
    """Wait until no process of the system is left."""
    wait_until(
        lambda: not processes_of(var),
        "the end of all processes",
        details=lambda: processes_of(var),
    )


class Run:
    """A running system, as its developer uses it."""

    def __init__(self, var: Path, process: "subprocess.Popen[str]", log: Path) -> None:
        self.var, self.process, self._log = var, process, log
        self.screen = self.output()
        self.control = Control(self.address("Lightning").rstrip("/"))

    def output(self) -> str:
        """Return all that the system has printed until now."""
        return self._log.read_text()

    def address(self, name: str) -> str:
        """Return an address on the first screen."""
        match = re.search(rf"{name}\s+(http://\S+)", self.screen)
        assert match, self.screen
        return match[1]

    def get(self, name: str, path: str = "") -> requests.Response:
        """Fetch a page below an address on the first screen."""
        return requests.get(f"{self.address(name)}{path}", timeout=LIMIT)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command of manage.py, as in another terminal."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**clean_environment(self.var), "CARAVEL_QUIET": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Run a command of manage.py; return its output."""
        with self.start(*arguments) as process:
            output, _ = process.communicate(stdin, timeout=2 * LIMIT)
        return output

    def query(self, sql: str, *values: Any) -> Any:
        """Return the first row of a query."""
        with self._database() as connection:
            return connection.execute(sql.encode(), values).fetchone()

    def wait_for_count(self, count: int, sql: str, *values: Any) -> None:
        """Wait until a query counts so many rows."""
        with self._database() as connection:
            wait_until(
                lambda: connection.execute(sql.encode(), values).fetchone() == (count,),
                f"{count} rows of {sql} {values}",
            )

    def _database(self) -> "psycopg.Connection[Any]":
        url = embedded.addresses(self.var).database_url
        return psycopg.connect(url, autocommit=True)

    def connect(self, wallet: str) -> str:
        """Connect a wallet of the sandbox to the tenant."""
        url = self.control.get(f"wallets/{wallet}")["url"]
        return self.manage("connect_wallet", NPUB, stdin=f"{url}\n")

    def wait_for(self, status: str, count: int) -> None:
        """Wait until the number of invoices with a status is `count`."""
        sql = "SELECT count(*) FROM billing_invoicecollection WHERE status = %s"
        self.wait_for_count(count, sql, status)

    def advance_a_month(self) -> None:
        """Advance the clock with the sandbox Stripe's control API."""
        stripe = self.address("Stripe").rstrip("/")
        for seconds in (31 * 86_400, 7_200):
            body = {"seconds": seconds}
            requests.post(f"{stripe}/_sandbox/clock/advance", json=body, timeout=LIMIT)

    def count_requests(self, wallet: str, method: str) -> int:
        """Return how many requests of a method a wallet has received."""
        received = self.control.get(f"wallets/{wallet}")["requests"]
        return sum(request["method"] == method for request in received)

    def admin(self, page: str) -> str:
        """Log in to the admin; return a page."""
        login = self.address("admin")
        credentials = re.search(r"user (\S+), password (\S+)", self.screen)
        assert credentials
        with requests.Session() as session:
            session.get(login, timeout=LIMIT)
            form = {
                "username": credentials[1],
                "password": credentials[2],
                "csrfmiddlewaretoken": session.cookies["csrftoken"],
            }
            session.post(f"{login}login/", data=form, timeout=LIMIT)
            return session.get(f"{login}{page}", timeout=LIMIT).text
