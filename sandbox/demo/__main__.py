"""`make demo`: the whole system once, without a browser.

Exits with 0 only if all amounts agree.
"""

import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from sandbox.demo.logs import print_logs
from sandbox.demo.supervisor import Child, supervise
from sandbox.demo.system import PYTHON, System, processes, run

#: Beat looks every two seconds for work that a jump of the clock made due.
FAST_SETTINGS = {
    "BEAT_WATCH_INVOICES": "2",
    "LIGHTNING_REFUSAL_PAUSE": "2",
    "NWC_TIMEOUT": "3",
}


def main() -> int:
    """Start the system in a temporary directory and run the demo on it."""
    print("Starting PostgreSQL, Valkey, sandboxes, web, workers, beat…", flush=True)
    with tempfile.TemporaryDirectory(prefix="caravel-demo-") as directory:
        logs = Path(directory) / "log"
        status = run(Path(directory), partial(_run_demo, logs), durable=False)
        if status:
            print_logs(logs)
    return status


def _run_demo(logs: Path, system: System) -> int:
    fast = replace(system, env={**system.env, **FAST_SETTINGS})
    env = {**fast.env, "LOG_LEVEL": "WARNING"}
    demo = Child("demo", [PYTHON, "-u", "manage.py", "run_demo"], env)
    return supervise([*processes(fast, logs=logs), demo], prefix=False)


if __name__ == "__main__":
    sys.exit(main())
