"""Measures how `make run` starts, and what it uses while nothing happens.

    python -m benchmarks.start [--quick]

Started is the whole system, with no data, and again with that of the first start; the
time until `/readyz` answers 200 is measured, and the CPU time of all processes by then.
A minute later the processes are counted, with their memory (PSS, so that shared pages
count once) and the CPU time of another minute. Linux only.

Exits with 1 if the idle system has more processes, memory or CPU time than its limits;
they allow for a busy machine. `--quick` starts once and looks at a few seconds.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from benchmarks.support.results import Results
from benchmarks.support.start.processes import NAMES, PROC, read_tree
from sandbox.demo.readiness import wait_until
from sandbox.demo.supervisor import free_ports
from sandbox.demo.system import PORTS, ROOT

#: Of the idle system: processes, MB, and percent of one core.
MAX_PROCESSES, MAX_MEMORY, MAX_CPU = 34, 800.0, 4.0
SETTLE, QUICK_SETTLE = 60.0, 4.0


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one start, a few seconds")
    quick = parser.parse_args().quick
    if not PROC.exists():
        sys.exit("This benchmark reads /proc, which only Linux has.")
    results = Results("start", quick=quick)
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        var = Path(directory) / "var"
        with _started(var, results, "first", "without data") as root:
            if quick:
                _measure_idle(root, results, QUICK_SETTLE)
        if not quick:
            with _started(var, results, "again", "with data") as root:
                _measure_idle(root, results, SETTLE)
    return results.finish()


@contextmanager
def _started(var: Path, results: Results, key: str, label: str) -> Iterator[int]:
    """Start the system, yield its process id, and stop it as Ctrl-C does."""
    ports = dict(zip(PORTS, map(str, free_ports([0] * len(PORTS))), strict=True))
    started = time.monotonic()
    with (
        var.with_suffix(".log").open("a") as log,
        subprocess.Popen(
            [sys.executable, "-m", "sandbox.demo.run"],
            cwd=ROOT,
            env={**os.environ, **ports, "CARAVEL_VAR": str(var), "DEBUG": "true"},
            stdout=log,
            stderr=log,
            # Else a Ctrl-C of ours would reach it twice.
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{ports['PORT']}/readyz")
            seconds = time.monotonic() - started
            results.add(f"{key}_ready", f"start {label} to /readyz", seconds, "s")
            cpu = sum(each.cpu for each in read_tree(process.pid))
            results.add(f"{key}_cpu", f"start {label}, CPU time", cpu, "s")
            yield process.pid
        finally:
            stopped = time.monotonic()
            # Ctrl-C's own signal is ignored by what a script runs in the background.
            process.send_signal(signal.SIGTERM)
            process.wait()
    seconds = time.monotonic() - stopped
    results.add(f"{key}_stop", f"start {label}: stop signal to the end", seconds, "s")


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    def is_ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError("`make run` ended before it was ready.")
        try:
            return requests.get(url, timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    wait_until(is_ready, seconds=300, event=f"200 from {url}")


def _measure_idle(root: int, results: Results, seconds: float) -> None:
    """Look at the system after some seconds, and again after as many."""
    time.sleep(seconds)
    before = {each.pid: each for each in read_tree(root)}
    time.sleep(seconds)
    after = read_tree(root)
    for name in NAMES:
        processes = [each for each in after if each.name == name]
        memory = sum(each.memory for each in processes)
        label = f"idle {name} ({len(processes)})"
        results.add(f"{name}_memory", f"{label}, memory", memory, "MB")
        cpu = sum(
            each.cpu - (before[each.pid].cpu if each.pid in before else 0.0)
            for each in processes
        )
        results.add(f"{name}_cpu", f"{label}, CPU", 100 * cpu / seconds, "% of a core")
    _add_totals(results, len(after))


def _add_totals(results: Results, processes: int) -> None:
    values = {key: figure.value for key, figure in results.figures.items()}
    memory = sum(values[f"{name}_memory"] for name in NAMES)
    cpu = sum(values[f"{name}_cpu"] for name in NAMES)
    results.add("processes", "idle: processes", processes, at_most=MAX_PROCESSES)
    results.add("memory", "idle: memory (PSS)", memory, "MB", at_most=MAX_MEMORY)
    # The first seconds after the start are not idle yet.
    limit = None if results.quick else MAX_CPU
    results.add("cpu", "idle: CPU", cpu, "% of a core", at_most=limit)


if __name__ == "__main__":
    sys.exit(main())
