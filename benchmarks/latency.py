"""Measures how soon an action has its effect, on the idle and on the loaded system.

    python -m benchmarks.latency [--quick]

The whole system runs as `make run` starts it, with durable servers. Measured are: a
relay's new plan until the subscription at Stripe has it, a webhook until its effect, a
click on the payment page until it shows a bolt11, and a settled payment until Stripe
has the invoice as paid, by hand and from a connected wallet. The load is ten webhooks
and ten signed API requests a second, fewer if 16 wait; its rate and the share of the
machine that is busy are printed.

Exits with 1 if an effect does not come, or if on the idle system a 95th percentile is
above its limit. `--quick` measures each twice, without limits.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from sandbox.demo.logs import print_logs
from sandbox.demo.supervisor import Child, supervise
from sandbox.demo.system import PYTHON, System, processes, run

#: Limits that one machine with so many tenants would reach.
ENVIRONMENT = {
    "API_RATE_PER_ADDRESS": "100000/minute",
    "API_RATE_COSTLY": "10000/minute",
    "API_RATE_PER_KEY": "10000/minute",
    "NEW_TENANT_RATE": "10000/hour",
    # Stripe's own for live accounts.
    "STRIPE_MAX_REQUESTS_PER_SECOND": "100",
}


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two samples of each")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        var = Path(directory)
        status = run(var, partial(_measure, var / "logs", quick))
        if status:
            print_logs(var / "logs")
    return status


def _measure(logs: Path, quick: bool, system: System) -> int:
    system = replace(system, env={**system.env, **ENVIRONMENT})
    command = [PYTHON, "-u", "-m", "benchmarks.support.latency"]
    env = {
        **system.env,
        "DJANGO_SETTINGS_MODULE": "caravel.settings",
        "LOG_LEVEL": "WARNING",
    }
    measure = Child("measure", [*command, *(["--quick"] if quick else [])], env)
    return supervise([*processes(system, logs=logs), measure], prefix=False)


if __name__ == "__main__":
    sys.exit(main())
