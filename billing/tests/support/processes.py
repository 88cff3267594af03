"""Real worker processes that use the tests' servers and database."""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection
from django.db.models import F

from billing.models import StripeEvent, SubscriptionSync
from caravel.tests.support import secret_scanner
from caravel.tests.support.waiting import read_line, wait_until
from relays.models import RelaySync

ROOT = Path(__file__).resolve().parents[3]
PREFORK = ("--concurrency", "2")
THREADS = ("--pool", "threads", "--concurrency", "64")


def environment() -> dict[str, str]:
    """Return the environment of a process that uses the test database."""
    url = urlsplit(settings.DATABASE_URL)
    database = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    # pytest sets it to another value for each test.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return {
        **inherited,
        "CARAVEL_ENV": "test",
        "DATABASE_URL": database,
        "REDIS_URL": settings.REDIS_URL,
        "STRIPE_API_BASE": settings.STRIPE_API_BASE,
        "STRIPE_SECRET_KEY": settings.STRIPE_SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": settings.STRIPE_WEBHOOK_SECRETS[0],
        "ZOOID_API_URL": settings.ZOOID_API_URL,
        "ZOOID_RELAYS_URL": settings.ZOOID_RELAYS_URL,
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "ROBOT_WALLET": ",".join(settings.ROBOT_WALLETS),
        "ROBOT_WALLET_REQUESTS_PER_MINUTE": str(
            settings.ROBOT_WALLET_REQUESTS_PER_MINUTE
        ),
        "BTC_PRICE_URLS": ",".join(settings.BTC_PRICE_URLS),
        "LIGHTNING_REFUSAL_PAUSE": str(settings.LIGHTNING_REFUSAL_PAUSE),
        "NWC_TIMEOUT": str(settings.NWC_TIMEOUT),
        "NWC_ALLOW_PRIVATE_RELAYS": str(settings.NWC_ALLOW_PRIVATE_RELAYS),
        "LOG_LEVEL": "WARNING",
    }


def run(code: str, **extra: str) -> subprocess.Popen[str]:
    """Start a Python process that sets up Django and runs the code."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=ROOT,
        env={
            **environment(),
            "DJANGO_SETTINGS_MODULE": "caravel.settings",
            **extra,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass(frozen=True)
class Worker:
    """A running Celery worker, which leads its own process group."""

    pid: int


@contextmanager
def worker(
    log: Path, *, queues: str = "default,stripe,zooid", pool: Sequence[str] = PREFORK
) -> Iterator[Worker]:
    """Run a Celery worker for these queues; it is killed when the block ends."""
    arguments = (
        *("--app", "caravel", "--quiet", "worker", "--queues", queues, *pool),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
    secret_scanner.watch(log).touch()
    request = {"arguments": arguments, "log": str(log)}
    running = Worker(_fork({**environment(), "LOG_LEVEL": "DEBUG"}, request))
    try:
        yield running
    finally:
        kill(running)


def kill(worker: Worker) -> None:
    """Send SIGKILL to a worker and its children, as if the machine had failed."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    wait_until(lambda: not _exists(worker.pid), "the worker's end")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _fork(env: dict[str, str], request: dict[str, Any]) -> int:
    """Fork a worker from a process with this environment; return its process id."""
    template = _template(tuple(sorted(env.items())))
    assert template.stdin
    template.stdin.write(json.dumps(request) + "\n")
    template.stdin.flush()
    return int(read_line(template))


# Importing the application takes most of a worker's start, so this is done once per
# environment.
@cache
def _template(env: tuple[tuple[str, str], ...]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "billing.tests.support.worker_template"],
        cwd=ROOT,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # It ends when its input ends.
    atexit.register(process.communicate)
    return process


def wait_for(condition: Callable[[], object], event: str) -> None:
    """Poll until the condition holds, or fail with the states of all syncs."""
    wait_until(condition, event, details=sync_states)


def sync_states() -> str:
    """Return the rows of all syncs, for messages."""
    relays = RelaySync.objects.defer("acknowledged", "sent")
    shown = [(str(each), each.last_error) for each in relays]
    return f"{list(SubscriptionSync.objects.values())} {shown}"


def age_timestamps(minutes: int) -> None:
    """Move all leases, enqueue times and retry times into the past."""
    for model, columns in (
        (SubscriptionSync, ("lease_until", "enqueued_at", "next_attempt_at")),
        (RelaySync, ("lease_until", "enqueued_at", "next_attempt_at")),
        (StripeEvent, ("enqueued_at", "next_attempt_at", "received_at")),
    ):
        age = timedelta(minutes=minutes)
        model.objects.update(**{column: F(column) - age for column in columns})


def all_synced() -> bool:
    """Return whether zooid has all relays, and Stripe what they cost."""
    stale = RelaySync.objects.stale(), SubscriptionSync.objects.stale()
    return not any(rows.exists() for rows in stale)
