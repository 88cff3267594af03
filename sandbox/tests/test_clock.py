"""The demo's clock, which several processes follow."""

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from sandbox.clock import POLL, VARIABLE, lead

# It and the child that it forked tell what time it is, in turn.
TELLER = """
import os, sys, time
from sandbox.clock import follow_if_told
follow_if_told()
who = "child" if os.fork() == 0 else "parent"
while True:
    print(f"{who} {time.time()}\\n", end="", flush=True)
    time.sleep(0.05)
"""


def told(process, seconds=1.0) -> dict[str, datetime]:
    """What each says of the time, in the end, when asked for so long."""
    last: dict[str, datetime] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(last) < 2:
        who, said = process.stdout.readline().split()
        last[who] = datetime.fromtimestamp(float(said))
    return last


def test_every_process_and_what_it_forks_follows(tmp_path):
    path = tmp_path / "clock"
    with subprocess.Popen(
        [sys.executable, "-c", TELLER],
        cwd=Path(__file__).parents[2],
        env={**os.environ, VARIABLE: str(path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            before = told(process)
            for days in (3, 7):
                lead(path, timedelta(days=days).total_seconds())
                time.sleep(5 * POLL)
            after = told(process)
        finally:
            os.killpg(process.pid, 9)

    assert abs(before["child"] - datetime.now()) < timedelta(seconds=30)
    for who in ("child", "parent"):
        passed = after[who] - before[who]
        assert timedelta(days=7) <= passed < timedelta(days=7, minutes=1)
