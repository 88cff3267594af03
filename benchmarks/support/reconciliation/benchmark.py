"""The measurements of reconciliation, in order. Needs django.setup()."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis
from django.conf import settings

from benchmarks.support import server
from benchmarks.support.reconciliation import (
    copies,
    limits,
    list_server,
    measure,
    seed,
    template,
)
from benchmarks.support.results import Results
from benchmarks.support.server import Server, run_module


class Benchmark:
    """One run; each size adds tenants to those of the size before."""

    def __init__(self, results: Results, var: Path) -> None:
        self._results = results
        self._log = var / "worker.log"
        self._state = var / "stripe.sqlite"
        self._lists = var / "lists.json"
        with self._sandbox() as sandbox:
            self._template = template.create()
            list_server.save(self._lists, sandbox.url, self._template)
        #: The template is one of them.
        self._tenants = 1
        self._lines: dict[str, list[tuple[float, float]]] = {}

    def run(self, sizes: Sequence[int]) -> None:
        """Measure each size in turn; the smaller ones also in the seed's way."""
        commands = {}
        for size in sizes:
            added = (self._tenants, size - 1)
            copies.add_tenants(self._template, *added)
            self._tenants = size
            print(f"\n{size:,} tenants, none differs\n")
            commands[size] = self._measure_command(size)
            if size in limits.MIN_SPEEDUP:
                print(f"\n{size:,} tenants, of which 1 % differ\n")
                copies.add_records(self._template, self._state, *added)
                self._compare_with_seed(size)
        if len(sizes) > 1:
            self._record_growth(commands)

    def _compare_with_seed(self, size: int) -> None:
        with self._sandbox() as sandbox:
            ours = self._measure_ours(sandbox, size)
            self._measure_seed(sandbox, size, ours)

    def _measure_ours(self, sandbox: Server, size: int) -> float:
        """Reconcile while some differ, and while none does; return the first time."""
        drifted = range(1, size, limits.DRIFTED_EVERY)
        with measure.running_worker(os.environ, self._log):
            seed.set_quantity(sandbox.url, self._template, drifted, 3)
            measure.set_latency(sandbox, limits.LATENCY)
            first = measure.reconcile(sandbox)
            second = measure.reconcile(sandbox)
        measure.set_latency(sandbox, 0)
        left = measure.drifted_at(sandbox)
        self._record(size, first, second, left=left)
        return first.seconds

    def _record(
        self,
        size: int,
        first: measure.Measurement,
        second: measure.Measurement,
        *,
        left: int,
    ) -> None:
        add, drifted = self._results.add, size // limits.DRIFTED_EVERY
        of = f"{size:,} tenants"
        add(f"seconds_{size}", f"{of}, until all are in sync", first.seconds, "s")
        add(f"steady_{size}", f"{of}, none differs", second.seconds, "s")
        allowed = size / 90 + 3 * drifted
        label = f"{of}, requests to Stripe"
        add(f"requests_{size}", label, first.requests, at_most=allowed)
        label = f"{of}, requests while none differs"
        add(f"steady_requests_{size}", label, second.requests, at_most=size / 90)
        label = f"{of}, synced by themselves"
        found = first.found + second.found
        add(f"found_{size}", label, found, at_least=drifted, at_most=drifted)
        add(f"left_{size}", f"{of}, left as they were", left, at_most=0)
        cpu = 100 * first.sandbox_cpu / first.seconds
        add(f"sandbox_{size}", f"{of}, share of a core of the sandbox", cpu, "%")
        self._plot(limits.DURATION, "reconciliation", size, first.seconds)

    def _measure_seed(self, sandbox: Server, size: int, ours: float) -> None:
        """Measure a sample, and compare the time for all with ours."""
        measure.set_latency(sandbox, limits.LATENCY)
        numbers = range(1, size, size // limits.SAMPLE[size])
        each = seed.seconds_per_tenant(sandbox.url, self._template, numbers)
        change = seed.set_quantity(sandbox.url, self._template, numbers[:5], 1)
        seconds = size * each + size // limits.DRIFTED_EVERY * change
        add, of = self._results.add, f"{size:,} tenants"
        add(f"seed_{size}", f"{of}, the seed's way (computed)", seconds, "s")
        label = f"{of}, times faster than the seed's way"
        minimum = limits.MIN_SPEEDUP[size]
        add(f"times_{size}", label, seconds / ours, at_least=minimum)
        self._plot(limits.DURATION, "the seed's way", size, seconds)

    def _record_growth(self, measured: Mapping[int, measure.Command]) -> None:
        """Record how time and memory grow from the fewest tenants to the most."""
        first, *_, last = measured
        growth = measured[last].memory - measured[first].memory
        label = f"Memory, from {first:,} to {last:,} tenants"
        self._results.add("growth", label, growth, "MB", at_most=limits.MAX_GROWTH)
        slope = (measured[last].seconds - measured[first].seconds) / (last - first)
        self._results.add("slope", "Time for 1,000 more", slope * 1_000, "s")
        label = "1,000,000 tenants, from this slope"
        self._results.add("million", label, slope * 1_000_000 / 60, "minutes")
        label = "1,000,000 tenants, if only Stripe's limit counts"
        pages = 1_000_000 / 100 / limits.ENDPOINT_RATE / 60
        self._results.add("million_limit", label, pages, "minutes")

    def _measure_command(self, size: int) -> measure.Command:
        """Measure `manage.py reconcile` with a server that only lists."""
        arguments = (str(self._lists), str(size), str(limits.LATENCY))
        module = "benchmarks.support.reconciliation.list_server"
        with run_module(module, *arguments) as lists:
            _use(lists.url)
            command = measure.run_command(os.environ, lists)
        of = f"{size:,} tenants"
        self._results.add(f"command_{size}", f"{of}, listed", command.seconds, "s")
        self._results.add(f"cpu_{size}", f"{of}, CPU time", command.cpu, "s")
        self._results.add(f"memory_{size}", f"{of}, memory", command.memory, "MB")
        share = 100 * command.server_cpu / command.seconds
        label = f"{of}, share of a core of the server"
        self._results.add(f"server_{size}", label, share, "%")
        self._plot(limits.MEMORY, "manage.py reconcile", size, command.memory)
        return command

    def _plot(self, title: str, line: str, x: float, y: float) -> None:
        points = self._lines.setdefault(line, [])
        points.append((x, y))
        self._results.plot(title, line, points)

    @contextmanager
    def _sandbox(self) -> Iterator[Server]:
        """Run the sandbox with its state, and no messages of an earlier one."""
        with redis.Redis.from_url(settings.REDIS_URL) as broker:
            broker.flushdb()
        with server.running("--state", str(self._state)) as sandbox:
            _use(sandbox.url)
            yield sandbox


def _use(url: str) -> None:
    """Use the Stripe at this address, here and in the processes that are started."""
    settings.STRIPE_API_BASE = os.environ["STRIPE_API_BASE"] = url
