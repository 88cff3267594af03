"""The first day of a month, from the renewals to the last payment.

Needs django.setup().
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from benchmarks.support import stores
from benchmarks.support.month import processes
from benchmarks.support.month.callers import calling
from benchmarks.support.month.checks import find_faults
from benchmarks.support.month.tenants import create
from billing.models import (
    InvoiceCollection,
    ReconciliationRun,
    StripeEvent,
    SubscriptionSync,
)
from sandbox.demo.readiness import wait_until, wait_until_ready
from sandbox.demo.system import System

#: Seconds that Stripe takes for each answer, and requests per second that it allows.
_LATENCY, _RATE_LIMIT = 0.12, 100
_HOUR = 3_600
_POLL = 0.5
_ID = re.compile(r"\w+_\w{14,}")
State, Status = InvoiceCollection.State, InvoiceCollection.Status


@dataclass(frozen=True)
class Month:
    """Measurements; durations in seconds."""

    invoices: int
    #: From the renewals until all drafts are recorded.
    drafts: float
    #: From the finalizations until all invoices are collected.
    collected: float
    #: The same until there is nothing left to do.
    settled: float
    #: By endpoint and status, until all work on drafts is done, and since.
    draft_requests: Counter[str]
    stripe_requests: Counter[str]
    transactions: int
    connections: int
    #: Milliseconds within which answers of the API came.
    api_p50: float
    api_p95: float
    #: CPU time of each process from the finalizations on.
    cpu: dict[str, float]
    #: Invoices collected by each second.
    progress: list[tuple[float, float]]
    faults: list[str]
    #: Bytes of each table for all tenants, and for all that happened in their month.
    tenants_bytes: dict[str, int]
    month_bytes: dict[str, int]
    valkey_bytes: int


def measure(system: System, number: int, *, timeout: float) -> Month:
    """Have the invoices of so many tenants renewed, finalized and collected."""
    empty = stores.measure()
    payers, renewal_at = create(system, number)
    created = stores.measure()
    with processes.running(system, system.var / "logs") as running:
        wait_until_ready(f"{settings.APP_URL}/readyz")
        stripe = _Stripe()
        # The first reconciliation finds the invoices of the month before.
        _wait(_is_reconciled, timeout, "The first reconciliation")
        _wait(lambda: _is_idle(stripe), timeout, "The end of its syncs")
        stripe.take_requests()
        with calling(settings.APP_URL, payers) as callers:
            drafts = _renew(stripe, renewal_at, number, timeout)
            draft_requests = stripe.take_requests()
            running.restart_clock()
            before, started = _database_counts(), time.monotonic()
            stripe.advance(_HOUR + 60)
            progress = _watch(number, started, timeout, stripe)
            collected = time.monotonic() - started
            _wait(lambda: _is_idle(stripe), timeout, "The end of all work")
            settled = time.monotonic() - started
            stripe_requests = stripe.take_requests()
            cpu = running.cpu_seconds()
        after = _database_counts()
    ended = stores.measure()
    faults = [*callers.faults, *find_faults(system, payers)]
    return Month(
        invoices=number,
        drafts=drafts,
        collected=collected,
        settled=settled,
        draft_requests=draft_requests,
        stripe_requests=stripe_requests,
        transactions=after[0] - before[0],
        connections=after[1] - before[1],
        api_p50=1_000 * callers.percentile(0.5),
        api_p95=1_000 * callers.percentile(0.95),
        cpu=cpu,
        progress=progress,
        faults=faults,
        tenants_bytes=created.growth(empty),
        month_bytes=ended.growth(created),
        valkey_bytes=ended.valkey - created.valkey,
    )


def _renew(stripe: "_Stripe", renewal_at: int, number: int, timeout: float) -> float:
    """Renew all subscriptions; return the seconds until their drafts are recorded."""
    started = time.monotonic()
    stripe.advance(max(0, renewal_at - stripe.now()) + 5)
    drafts = InvoiceCollection.objects.exclude(state=State.CLOSED)
    _wait(lambda: drafts.count() >= number, timeout, "The recording of all drafts")
    _wait(lambda: _is_idle(stripe), timeout, "The end of all work on drafts")
    return time.monotonic() - started


def _watch(
    number: int, started: float, timeout: float, stripe: "_Stripe"
) -> list[tuple[float, float]]:
    """Return the invoices collected by each second, until all are."""
    progress = [(0.0, 0.0)]
    paid = InvoiceCollection.objects.filter(stripe_status=Status.PAID)

    def is_collected() -> bool:
        done = paid.count() - number
        stripe.count_requests()
        progress.append((round(time.monotonic() - started, 1), float(done)))
        return done >= number

    _wait(is_collected, timeout, f"The collection of {number} invoices")
    return progress


def _is_idle(stripe: "_Stripe") -> bool:
    stripe.count_requests()
    waiting = [
        StripeEvent.objects.received(),
        InvoiceCollection.objects.filter(enqueued_at__isnull=False),
        SubscriptionSync.objects.stale(),
    ]
    return not stripe.pending_deliveries() and not any(map(_exists, waiting))


def _is_reconciled() -> bool:
    return ReconciliationRun.objects.filter(finished_at__isnull=False).exists()


def _exists(rows: QuerySet[Any]) -> bool:
    return rows.exists()


def _wait(condition: Callable[[], bool], seconds: float, event: str) -> None:
    def is_true() -> bool:
        time.sleep(_POLL)
        return condition()

    wait_until(is_true, seconds=seconds, event=event)


def _database_counts() -> tuple[int, int]:
    """Return the transactions and the connections that PostgreSQL has counted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT xact_commit, sessions FROM pg_stat_database "
            "WHERE datname = current_database()"
        )
        transactions, sessions = cursor.fetchone() or (0, 0)
    return int(transactions), int(sessions)


class _Stripe:
    """The control API of the sandbox Stripe."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._requests: Counter[str] = Counter()
        self._call("POST", "settings", latency=_LATENCY, rate_limit=_RATE_LIMIT)

    def now(self) -> int:
        return int(self._call("GET", "clock")["now"])

    def advance(self, seconds: int) -> None:
        self._call("POST", "clock/advance", seconds=seconds)

    def pending_deliveries(self) -> int:
        return int(self._call("GET", "state")["pending_deliveries"])

    def count_requests(self) -> None:
        """Count the requests to the API since the last time, by method and path."""
        # Deleted as they are read: none is missed in between.
        for entry in self._call("DELETE", "requests")["data"]:
            name = f"{entry['method']} {_general(entry['path'])} {entry['status']}"
            self._requests[name] += 1

    def take_requests(self) -> Counter[str]:
        """Return the counts since this was last called."""
        self.count_requests()
        taken, self._requests = self._requests, Counter()
        return taken

    def _call(self, method: str, path: str, **fields: object) -> Any:
        url = f"{settings.STRIPE_API_BASE}/_sandbox/{path}"
        answer = self._session.request(method, url, json=fields, timeout=600)
        answer.raise_for_status()
        return answer.json()


def _general(path: str) -> str:
    """Return a path without its query and ids."""
    return _ID.sub("ID", path.partition("?")[0])
