"""`make demo`: the whole system once, headless; exit status 0 only if all agrees."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from caravel import embedded
from sandbox.supervisor import Child, supervise
from sandbox.system import PYTHON, System, prepare, processes, running_servers

#: Beat wakes up every two seconds, and finds due what a jump of the clock made due.
IN_HASTE = {"BEAT_WATCH_INVOICES": "2", "NWC_TIMEOUT": "3"}


def main() -> int:
    """Run the system in a directory of its own while a story is told on it."""
    print("Starting PostgreSQL, Valkey, sandboxes, web, workers, beat…", flush=True)
    with tempfile.TemporaryDirectory(prefix="caravel-demo-") as directory:
        logs = Path(directory) / "log"
        try:
            with running_servers(Path(directory), durable=False) as system:
                status = _tell(system, logs)
        except embedded.EmbeddedError as exc:
            print(exc, file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as exc:
            print("Preparing the system failed; see above.", file=sys.stderr)
            return exc.returncode
        if status:
            _show(logs)
    return status


def _tell(system: System, logs: Path) -> int:
    prepare(system)
    logs.mkdir(exist_ok=True)
    timed = replace(system, env={**system.env, **IN_HASTE})
    env = {**timed.env, "LOG_LEVEL": "WARNING"}
    story = Child("story", [PYTHON, "-u", "manage.py", "tell_story"], env)
    return supervise([*processes(timed, logs=logs), story], prefix=False)


def _show(logs: Path) -> None:
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-30:]
        print(f"\n--- {log.name}, its last lines", *lines, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
