"""Measures how fast one worker provisions relays, and how fast it probes them.

    python -m benchmarks.provisioning [--quick]

zooid takes 50 ms for each answer. The worker runs production's command. The same work
is measured one after the other, in this process.

Exits with 1 if 1,000 relays are not provisioned or 10,000 NIP-11 documents not read
within a minute, or if a relay is written twice. `--quick` measures a fifth of both,
and compares its rate.
"""

import argparse
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.support import slow_zooid
from benchmarks.support.installation import installed
from benchmarks.support.results import Results
from caravel.nostr import generate_secret_key, pubkey_of

if TYPE_CHECKING:
    from benchmarks.support.relays_at_zooid import Measurement

LATENCY = 0.05
RELAYS, PROBES = 1_000, 10_000
#: Seconds for each.
LIMIT = 60.0


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the relays")
    quick = parser.parse_args().quick
    results, share = Results("provisioning", quick=quick), 5 if quick else 1
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        return _measure(results, Path(directory), RELAYS // share, PROBES // share)


def _measure(results: Results, directory: Path, relays: int, probes: int) -> int:
    secret, log = generate_secret_key(), directory / "worker.log"
    environment = {"ROBOT_SECRET": secret, "RELAY_DOMAIN": "relays.example"}
    with installed(directory, environment):
        # Imports models: possible only after django.setup().
        work = import_module("benchmarks.support.relays_at_zooid")
        state = directory / "zooid.json"
        print(f"One worker process; zooid answers after {LATENCY * 1000:.0f} ms\n")
        with slow_zooid.running(pubkey_of(secret), seconds=LATENCY, state=state) as url:
            work.use(url)
            provisioned = work.provision(relays, os.environ, log)
        work.write_state(probes, state)
        with slow_zooid.running(pubkey_of(secret), seconds=LATENCY, state=state) as url:
            work.use(url)
            probed = work.probe(os.environ, log)
    _report(results, "provisioned", provisioned, RELAYS)
    _report(results, "probed", probed, PROBES)
    if status := results.finish():
        lines = log.read_text(errors="replace").splitlines()[-30:]
        print("\n--- last lines of the worker", *lines, sep="\n", file=sys.stderr)
    return status


def _report(results: Results, key: str, measured: "Measurement", full: int) -> None:
    """Record the time of the full number, after the rate of those measured."""
    name = measured.name
    results.add(f"{key}_rate", f"Relays {name}", measured.rate, "per second")
    ratio = measured.rate / measured.single_rate
    results.add(f"{key}_ratio", f"{name}, times one after the other", ratio)
    seconds = full / measured.rate
    label = f"{full:,} relays {name} in"
    results.add(f"{key}_seconds", label, seconds, "s", at_most=LIMIT)
    results.add(f"{key}_faults", f"{name} wrongly", measured.faults, at_most=0)


if __name__ == "__main__":
    sys.exit(main())
