"""The clock of the demo, which several processes follow."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

from caravel.tests.support.waiting import LIMIT, read_line
from sandbox.clock import CLOCK_LOST, VARIABLE, write_offset
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


def read_times(process, earliest: datetime) -> dict[str, datetime]:
    """Return the first times from `earliest` on that parent and child print."""
    times: dict[str, datetime] = {}
    while len(times) < 2:
        name, text = read_line(process).split()
        at = datetime.fromtimestamp(float(text))
        if at >= earliest:
            times.setdefault(name, at)
    return times


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
        started_at = datetime.now()
        # The forked child keeps the pipe open.
        killer = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        try:
            for days in (0, 3, 7):
                ahead = timedelta(days=days)
                write_offset(path, ahead.total_seconds())
                times = read_times(process, started_at + ahead)
                latest = datetime.now() + ahead
                assert all(at <= latest for at in times.values())
        finally:
            killer.cancel()
            os.killpg(process.pid, signal.SIGKILL)


# Prints after how many jumps threads that need the time at once are days apart.
JUMPS = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sandbox import clock
clock.POLL_INTERVAL = 0
path = Path(sys.argv[1])
clock.follow(path)
barrier = threading.Barrier(4)
def read_time(_):
    barrier.wait()
    return time.time()
lags = 0
with ThreadPoolExecutor(4) as threads:
    for day in range(1, 501):
        clock.write_offset(path, day * 86_400)
        times = list(threads.map(read_time, range(4)))
        lags += max(times) - min(times) > 43_200
print(lags)
"""


def test_no_thread_lags_while_another_reads_the_clock(tmp_path):
    assert run_follower(JUMPS, tmp_path / "clock").stdout == "0\n"


# As a forked Celery worker does with its database connection, again and again.
CLOSES_TWICE = """
import os, sys, time
from pathlib import Path
from sandbox import clock
clock.POLL_INTERVAL = 0
path = Path(sys.argv[1])
clock.write_offset(path, 0)
clock.follow(path)
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
for _ in range(1_000):
    numbers = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    os.close(numbers[0])
    time.sleep(0.0001)
    for number in numbers:
        try:
            os.close(number)
        except OSError:
            pass
start = time.time()
clock.write_offset(path, 86_400)
while time.time() < start + 86_000:
    time.sleep(0.01)
"""


def test_forked_child_that_closes_descriptors_twice_follows_the_clock(tmp_path):
    child = run_follower(CLOSES_TWICE, tmp_path / "clock")

    assert (child.returncode, child.stderr) == (0, "")


STARTS_TO_FOLLOW = """
import os, sys, time
from pathlib import Path
from sandbox import clock
clock.follow(Path(sys.argv[1]))
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
clock.write_offset(Path(sys.argv[1]), "no number")
while True:
    time.time()
"""


def test_process_that_cannot_follow_the_clock_ends_and_says_why(tmp_path):
    child = run_follower(STARTS_TO_FOLLOW, tmp_path / "clock")

    assert child.returncode == CLOCK_LOST
    assert "could not convert string to float: 'no number'" in child.stderr


MEASURES_ITSELF = """
import sys, threading
from pathlib import Path
from sandbox import clock
clock.follow(Path(sys.argv[1]))
print(threading.active_count(), "pytest" in sys.modules)
"""


def test_process_follows_without_a_thread_and_without_test_tools(tmp_path):
    assert run_follower(MEASURES_ITSELF, tmp_path / "clock").stdout == "1 False\n"


def run_follower(script: str, path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


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
    printed = run_follower(IDLE_FOLLOWER, tmp_path / "file").stdout
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
