"""Measures each way on the idle and on the loaded system. Needs django.setup()."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from django.conf import settings

from benchmarks.support.latency import load
from benchmarks.support.latency.account import Account, receive
from benchmarks.support.results import Results
from sandbox.demo.readiness import wait_until, wait_until_ready
from sandbox.demo.scenario import Demo

SAMPLES, QUICK_SAMPLES = 20, 2
#: Label, and limit in seconds for the 95th percentile on the idle system: what a payer
#: or a tenant does not mind. A plan change waits for BILLING_SYNC_DELAY first.
WAYS = {
    "sync": ("relay saved → Stripe changed", settings.BILLING_SYNC_DELAY + 1.0),
    "webhook": ("webhook posted → its effect", 0.5),
    "click": ("click → page with a bolt11", 1.0),
    "manual": ("paid by hand → paid at Stripe", 1.5),
    "wallet": ("wallet debited → paid at Stripe", 1.5),
}


@dataclass
class Times:
    """Seconds of each way."""

    by_way: dict[str, list[float]] = field(
        default_factory=lambda: {way: [] for way in WAYS}
    )

    def add(self, way: str, act: Callable[[], float]) -> None:
        """Measure once, not in step with timers that run each second."""
        time.sleep(random.uniform(0, 0.5))
        self.by_way[way].append(act())


def main(*, quick: bool) -> int:
    """Measure; return the exit status."""
    results = Results("latency", quick=quick)
    samples = QUICK_SAMPLES if quick else SAMPLES
    wait_until_ready(f"{settings.APP_URL}/readyz")
    demo = Demo()
    accounts = [Account(demo) for _ in range(4 * samples)]
    _sign_up(demo, accounts)
    events = [account.fetch_event() for account in accounts]
    keys = [account.tenant.secret_key for account in accounts]
    for name in ("idle", "loaded"):
        batch = [accounts.pop() for _ in range(2 * samples)]
        is_loaded = name == "loaded"
        beside = load.running(keys, events) if is_loaded else nullcontext(load.Load())
        with beside as sent, _busy() as busy:
            times = _measure(batch, events[:samples])
        _report(results, name, times, is_limited=not quick and not is_loaded)
        results.add(f"{name}_busy", f"{name}: machine busy", busy[0] * 100, "%")
        results.add(f"{name}_load", f"{name}: requests beside it", sent.rate, "/s")
    return results.finish()


def _sign_up(demo: Demo, accounts: list[Account]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Account.sign_up, accounts))
    wait_until(
        lambda: all(each.is_billed for each in accounts) and demo.is_idle(),
        seconds=300,
        event="The first invoice of each tenant",
    )


def _measure(accounts: list[Account], events: list[dict[str, Any]]) -> Times:
    times = Times()
    by_hand, by_wallet = accounts[::2], accounts[1::2]
    for hand, wallet, event in zip(by_hand, by_wallet, events, strict=True):
        times.add("webhook", partial(receive, event))
        times.add("click", hand.press_pay)
        times.add("manual", hand.pay)
        times.add("wallet", wallet.connect_wallet)
        times.add("sync", hand.change_plan)
    return times


def _report(results: Results, name: str, times: Times, *, is_limited: bool) -> None:
    for way, (label, limit) in WAYS.items():
        seconds = times.by_way[way]
        p95 = quantiles(seconds, n=20, method="inclusive")[-1]
        text = f"{name}: {label}"
        results.add(f"{name}_{way}_p50", f"{text}, median", median(seconds), "s")
        results.add(
            f"{name}_{way}_p95",
            f"{text}, p95",
            p95,
            "s",
            at_most=limit if is_limited else None,
        )


@contextmanager
def _busy() -> Iterator[list[float]]:
    """Yield a list that gets the share of the machine's time that was not idle."""
    share: list[float] = []
    before = _cpu_times()
    yield share
    spent = [b - a for a, b in zip(before, _cpu_times(), strict=True)]
    share.append(1 - (spent[3] + spent[4]) / sum(spent) if spent else 0.0)


def _cpu_times() -> list[int]:
    """Return the kernel's counters: user, nice, system, idle, iowait, …"""
    path = Path("/proc/stat")
    line = path.read_text().splitlines()[0] if path.exists() else ""
    return [int(number) for number in line.split()[1:]]
