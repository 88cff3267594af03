"""`make run`: the whole system, until Ctrl-C."""

import sys
from functools import partial
from pathlib import Path

from caravel import dev_defaults
from sandbox import clock
from sandbox.demo.supervisor import supervise
from sandbox.demo.system import VAR, System, processes, run
from sandbox.demo.welcome import welcome


def main() -> int:
    """Run the whole system until it is stopped; return the exit status."""
    print(
        "Starting Caravel: servers, migrations, sandboxes, web, workers, beat…",
        flush=True,
    )
    return run(VAR, _supervise, with_admin=True)


def _supervise(system: System) -> int:
    run_file = _write_run_file(system)
    try:
        return supervise(
            processes(system),
            find_fault=system.find_fault,
            announce=partial(welcome, system.env),
        )
    finally:
        run_file.unlink()


def _write_run_file(system: System) -> Path:
    """Write the addresses of this run to a file, which `make shell` reads."""
    path = system.var / dev_defaults.RUN_FILE
    names = (
        *("APP_URL", "STRIPE_API_BASE", "ROBOT_WALLET", "BTC_PRICE_URLS"),
        *("ROBOT_OUTBOX_RELAYS", "ROBOT_INDEXER_RELAYS", "ZOOID_API_URL"),
        *("ZOOID_RELAYS_URL", "RELAY_DOMAIN"),
        clock.VARIABLE,
    )
    # A killed run may have left a file; a new one gets the right permissions.
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={system.env[name]}\n" for name in names))
    return path


if __name__ == "__main__":
    sys.exit(main())
