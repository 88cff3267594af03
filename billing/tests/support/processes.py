"""Real worker processes that use the tests' servers and database."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection
from django.db.models import F

from billing.models import StripeEvent, SubscriptionSync
from caravel.tests.support import secret_scanner
from caravel.tests.support.waiting import LIMIT, wait_until

ROOT = Path(__file__).resolve().parents[3]
PREFORK = ("--concurrency", "2")
THREADS = ("--pool", "threads", "--concurrency", "64")


def environment() -> dict[str, str]:
    """Return the environment of a process that uses the test database."""
    url = urlsplit(settings.DATABASE_URL)
    database = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    return {
        **os.environ,
        "CARAVEL_ENV": "test",
        "DATABASE_URL": database,
        "REDIS_URL": settings.REDIS_URL,
        "STRIPE_API_BASE": settings.STRIPE_API_BASE,
        "STRIPE_SECRET_KEY": settings.STRIPE_SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": settings.STRIPE_WEBHOOK_SECRETS[0],
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "ROBOT_WALLET": ",".join(settings.ROBOT_WALLETS),
        "BTC_PRICE_URLS": ",".join(settings.BTC_PRICE_URLS),
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


@contextmanager
def worker(
    log: Path, *, queues: str = "default,stripe", pool: Sequence[str] = PREFORK
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Celery worker for these queues; it is killed when the block ends."""
    with secret_scanner.watch(log).open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "--app", "caravel", "--quiet"),
                *("worker", "--queues", queues, *pool),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            cwd=ROOT,
            env={**environment(), "LOG_LEVEL": "DEBUG"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to a worker and its children, as if the machine had failed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait(LIMIT)


def wait_for(condition: Callable[[], object], event: str) -> None:
    """Poll until the condition holds, or fail with the states of all syncs."""
    wait_until(condition, event, details=sync_states)


def sync_states() -> str:
    """Return all rows of SubscriptionSync, for messages."""
    return str(list(SubscriptionSync.objects.values()))


def age_timestamps(minutes: int) -> None:
    """Move all leases, enqueue times and retry times into the past."""
    for model, columns in (
        (SubscriptionSync, ("lease_until", "enqueued_at", "next_attempt_at")),
        (StripeEvent, ("enqueued_at", "next_attempt_at", "received_at")),
    ):
        age = timedelta(minutes=minutes)
        model.objects.update(**{column: F(column) - age for column in columns})


def all_synced() -> bool:
    return not SubscriptionSync.objects.stale().exists()
