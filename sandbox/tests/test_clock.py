"""The clock of the demo, which several processes follow."""

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from sandbox.clock import POLL_INTERVAL, VARIABLE, write_offset
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client

# Prints the time repeatedly, in the parent and in a forked child.
CLOCK_PRINTER = """
import os, sys, time
from sandbox.clock import follow_from_environment
follow_from_environment()
who = "child" if os.fork() == 0 else "parent"
while True:
    print(f"{who} {time.time()}\\n", end="", flush=True)
    time.sleep(0.05)
"""


def read_times(process, seconds=1.0) -> dict[str, datetime]:
    """Return the last time that parent and child have printed."""
    last: dict[str, datetime] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(last) < 2:
        name, text = process.stdout.readline().split()
        last[name] = datetime.fromtimestamp(float(text))
    return last


def test_process_and_its_forked_child_follow_the_clock(tmp_path):
    path = tmp_path / "clock"
    with subprocess.Popen(
        [sys.executable, "-c", CLOCK_PRINTER],
        cwd=Path(__file__).parents[2],
        env={**os.environ, VARIABLE: str(path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            before = read_times(process)
            for days in (3, 7):
                write_offset(path, timedelta(days=days).total_seconds())
                time.sleep(5 * POLL_INTERVAL)
            after = read_times(process)
        finally:
            os.killpg(process.pid, 9)

    assert abs(before["child"] - datetime.now()) < timedelta(seconds=30)
    for name in ("child", "parent"):
        passed = after[name] - before[name]
        assert timedelta(days=7) <= passed < timedelta(days=7, minutes=1)


# Follows the clock, is idle for a moment, then prints the time between two real times:
# those that the kernel gives to a file.
IDLE_FOLLOWER = """
import pathlib, sys, threading, time
from sandbox.clock import follow
file = pathlib.Path(sys.argv[1])
def real_time():
    file.write_text("")
    return file.stat().st_mtime
follow(file.with_suffix(".clock"))
threading.Event().wait(1)
print(real_time(), time.time(), real_time())
"""


def test_an_idle_process_does_not_lag(tmp_path):
    printed = subprocess.run(
        [sys.executable, "-c", IDLE_FOLLOWER, str(tmp_path / "file")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    before, shown, after = map(float, printed.split())

    # The kernel's file times are up to a tick (10 ms) old.
    assert before - 0.1 <= shown <= after + 0.1


def test_webhooks_are_signed_with_the_shared_time(tmp_path):
    for clock_file, ahead in ((None, 0), (tmp_path / "clock", 86_400)):
        signatures: list[str] = []

        def receive(url, body, headers, signatures=signatures):
            signatures.append(headers["Stripe-Signature"])
            return 200

        app = StripeApp(seed=1, post=receive, clock_file=clock_file)
        app.register_endpoint("http://127.0.0.1:1/")
        app.advance(86_400)
        in_process_client(app).v1.customers.create({})
        app.deliveries.deliver_due()

        signed_at = int(signatures[-1].split(",")[0].removeprefix("t="))
        assert abs(signed_at - time.time() - ahead) < 60
