"""The whole system of `make run` as processes, for tests."""

import os
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
_PORTS = ("PORT", "STRIPE_PORT", "LIGHTNING_PORT", "NOSTR_PORT", "ZOOID_PORT")


def clean_environment(var: Path) -> dict[str, str]:
    """Return the environment without this test run's settings, with free ports."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not _CONFIGURATION.match(name)
    }
    ports = dict(zip(_PORTS, map(str, free_ports([0] * len(_PORTS))), strict=True))
    return {**others, **ports, "CARAVEL_VAR": str(var), "DEBUG": "true"}


@contextmanager
def running(var: Path, **env: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start `make run`; yield the process and its output up to the first screen."""
    with default_signals():
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "sandbox.demo.run"],
            cwd=ROOT,
            env={**clean_environment(var), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with process, bounded(process, seconds=SYSTEM_LIMIT):
        yield process, _read_until(process, "Ctrl-C stops everything")


def _read_until(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout
    output = ""
    line: str
    for line in process.stdout:
        output += line
        if text in line:
            return output
    raise AssertionError(f"it ended before {text!r}:\n{output}")


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


def address(screen: str, name: str) -> str:
    """Return an address on the first screen."""
    match = re.search(rf"{name}\s+(http://\S+)", screen)
    assert match, screen
    return match[1]


class Run:
    """A running system, as its developer uses it."""

    def __init__(
        self, var: Path, process: "subprocess.Popen[str]", screen: str
    ) -> None:
        self.var, self.process, self.screen = var, process, screen
        self.control = Control(address(screen, "Lightning").rstrip("/"))

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
        url = embedded.addresses(self.var).database_url
        with psycopg.connect(url) as connection:
            return connection.execute(sql.encode(), values).fetchone()

    def connect(self, wallet: str) -> str:
        """Connect a wallet of the sandbox to the tenant."""
        url = self.control.get(f"wallets/{wallet}")["url"]
        return self.manage("connect_wallet", NPUB, stdin=f"{url}\n")

    def wait_for(self, status: str, count: int) -> None:
        """Wait until the number of invoices with a status is `count`."""
        sql = "SELECT count(*) FROM billing_invoicecollection WHERE status = %s"
        wait_until(
            lambda: self.query(sql, status) == (count,),
            f"{count} invoices with status {status}",
        )

    def advance_a_month(self) -> None:
        """Advance the clock with the sandbox Stripe's control API."""
        stripe = address(self.screen, "Stripe").rstrip("/")
        for seconds in (31 * 86_400, 7_200):
            body = {"seconds": seconds}
            requests.post(f"{stripe}/_sandbox/clock/advance", json=body, timeout=LIMIT)

    def count_requests(self, wallet: str, method: str) -> int:
        """Return how many requests of a method a wallet has received."""
        received = self.control.get(f"wallets/{wallet}")["requests"]
        return sum(request["method"] == method for request in received)

    def admin(self, page: str) -> str:
        """Log in to the admin; return a page."""
        login = address(self.screen, "admin")
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
