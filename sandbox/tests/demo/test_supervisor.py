import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from io import RawIOBase
from pathlib import Path

import pytest

from caravel.tests.support.processes import default_signals, environment, python, runs
from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.demo.supervisor import free_ports

# Runs the scripts in {name: script} and prints the return value of `supervise`.
SUPERVISE = """
import json, os, sys
from pathlib import Path
from sandbox.demo.supervisor import Child, supervise
log = Path(sys.argv[3]) if len(sys.argv) > 3 else None
children = [
    Child(name, [sys.executable, "-c", script], os.environ, log)
    for name, script in json.loads(sys.argv[1]).items()
]
print("returned", supervise(children, **json.loads(sys.argv[2])), flush=True)
"""
SLEEPING = "import time; print('up', flush=True); time.sleep(600)"
POLITE = """
import signal, sys, time
def stop(signum, frame):
    print("stopped politely", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(600)
"""
# A command with a child in its process group; both ignore SIGTERM.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    print("up", flush=True)
time.sleep(600)
"""
# Ends at once and leaves a child that holds its output open.
ORPHANING = """
import os, sys, time
if pid := os.fork():
    print("left", pid)
    sys.exit(4)
time.sleep(600)
"""


def supervisor(
    children: dict[str, str], *arguments: object, **options: object
) -> AbstractContextManager[subprocess.Popen[str]]:
    options = {"kill_after": LIMIT, **options}
    return python(SUPERVISE, json.dumps(children), json.dumps(options), *arguments)


def read_until(process: subprocess.Popen[str], text: str, times: int = 1) -> str:
    """Return the lines up to the n-th one that contains the text."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        times -= text in line
        if times == 0:
            return "".join(lines)
    raise AssertionError(f"{text!r} is not in {lines}")


def read_terminal(terminal: RawIOBase, text: bytes, times: int = 1) -> bytes:
    printed = b""

    def complete() -> bool:
        nonlocal printed
        if select.select([terminal], [], [], 0)[0]:
            printed += terminal.read(4096) or b""
        return printed.count(text) == times

    wait_until(complete, f"{times} × {text!r}", details=lambda: printed)
    return printed


def descendants(pid: int) -> set[int]:
    """Return the pids of all direct and indirect child processes."""
    table = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = [tuple(map(int, line.split())) for line in table.stdout.splitlines()]
    tree = {pid}
    while more := {child for child, parent in pairs if parent in tree} - tree:
        tree |= more
    return tree - {pid}


def all_gone(pids: set[int]) -> bool:
    return not any(map(runs, pids))


def test_first_child_to_end_sets_the_exit_code_and_stops_the_others() -> None:
    script = "import sys; sys.stdin.read(); print('ending'); sys.exit(7)"

    with supervisor({"web": script, "worker": POLITE}) as process:
        assert "returned 7\n" in read_until(process, "returned")
        assert process.wait(LIMIT) == 0


def test_output_lines_are_prefixed_with_the_process_name() -> None:
    with supervisor({"web": "print('hello')"}) as process:
        printed = read_until(process, "returned 0")

    assert any("web" in row and "| hello" in row for row in printed.splitlines())
    assert "web stopped (rc=0)" in printed


def test_without_prefix_only_the_commands_output_is_printed() -> None:
    with supervisor({"web": "print('hello')"}, prefix=False) as process:
        assert read_until(process, "returned") == "hello\nreturned 0\n"


def test_command_killed_by_a_signal_returns_128_plus_signal() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

    with supervisor({"web": script, "worker": SLEEPING}) as process:
        assert "returned 137" in read_until(process, "returned")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stop_signal_terminates_all_children(signum: signal.Signals) -> None:
    with supervisor({"web": POLITE, "worker": POLITE}) as process:
        read_until(process, "| up", times=2)
        started = descendants(process.pid)
        process.send_signal(signum)
        printed = read_until(process, "returned")

    assert printed.count("stopped politely") == 2
    assert "returned 0\n" in printed
    assert len(started) >= 4
    assert all_gone(started)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_signal_that_is_ignored_from_the_start_stays_ignored(
    signum: signal.Signals,
) -> None:
    """As under nohup, or in the background job of a script."""
    ignoring = f"import signal; signal.signal({int(signum)}, signal.SIG_IGN)"
    ticking = "import time\nwhile True: print('tick'); time.sleep(0.01)"

    with python(
        f"{ignoring}\n{SUPERVISE}", json.dumps({"web": ticking}), "{}"
    ) as process:
        read_until(process, "tick")
        process.send_signal(signum)
        # Longer than the supervisor takes to stop the command.
        read_until(process, "tick", times=200)
        process.terminate()

        assert "returned 0\n" in read_until(process, "returned")


def test_ctrl_c_in_a_terminal_terminates_all_children() -> None:
    script = {"web": POLITE, "worker": POLITE}
    command = [sys.executable, "-c", SUPERVISE, json.dumps(script), "{}"]
    with default_signals():
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, command, environment())

    with os.fdopen(terminal, "r+b", buffering=0) as keyboard_and_screen:
        printed = read_terminal(keyboard_and_screen, b"up\r\n", times=2)
        keyboard_and_screen.write(b"\x03")
        printed += read_terminal(keyboard_and_screen, b"returned 0")
    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the end of the supervisor")

    assert printed.count(b"stopped politely") == 2


def test_child_that_ignores_sigterm_is_killed_with_its_group() -> None:
    with supervisor({"web": STUBBORN}, kill_after=0.3) as process:
        read_until(process, "| up")
        started = descendants(process.pid)
        process.terminate()
        printed = read_until(process, "returned")

    assert "killing web" in printed
    assert "returned 0\n" in printed
    assert len(started) >= 3
    assert all_gone(started)


def test_orphans_of_a_command_are_stopped() -> None:
    with supervisor({"web": ORPHANING, "worker": SLEEPING}) as process:
        orphan = int(read_until(process, "left").split()[-1])
        printed = read_until(process, "returned")

    assert "returned 4\n" in printed
    assert not runs(orphan)


@pytest.mark.parametrize("script", [SLEEPING, STUBBORN], ids=["polite", "stubborn"])
def test_nothing_outlives_a_killed_supervisor(script: str) -> None:
    with supervisor({"web": script, "worker": script}, kill_after=0.5) as process:
        read_until(process, "| up", times=2)
        started = descendants(process.pid)
        process.kill()

        assert len(started) >= 4
        wait_until(lambda: all_gone(started))


def test_command_ends_when_supervisor_and_intermediate_are_killed() -> None:
    with supervisor({"web": SLEEPING}) as process:
        read_until(process, "| up")
        started = descendants(process.pid)
        between, command = sorted(started)
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(between, signal.SIGKILL)

        wait_until(lambda: not runs(command))


def test_killed_intermediate_process_stops_the_others() -> None:
    with supervisor({"web": SLEEPING, "worker": SLEEPING}) as process:
        read_until(process, "| up", times=2)
        started = descendants(process.pid)
        os.kill(min(started), signal.SIGKILL)

        assert "returned 137" in read_until(process, "returned")
        assert all_gone(started)


def test_command_that_cannot_run_is_reported() -> None:
    script = SUPERVISE.replace("[sys.executable", "['/not/there'")

    with python(script, json.dumps({"web": ""}), "{}") as process:
        printed = read_until(process, "returned")

    assert "cannot run /not/there: No such file or directory" in printed
    assert "returned 127\n" in printed


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log of" / "web.log"

    for _ in range(2):
        with supervisor({"web": "print('hello')"}, log) as process:
            assert "hello" not in read_until(process, "returned 0")

    assert log.read_text() == "hello\nhello\n"


def test_all_children_stop_when_the_terminal_is_gone() -> None:
    chatty = "import time\nwhile True: print('still here'); time.sleep(0.01)"

    with supervisor({"web": chatty}) as process:
        read_until(process, "still here")
        started = descendants(process.pid)
        assert process.stdout
        process.stdout.close()

        wait_until(lambda: all_gone(started))
        assert process.wait(LIMIT) != 0  # there was nowhere to print the exit code


def test_free_ports_prefers_the_requested_port() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.listen()
        (other,) = free_ports([port])
    again = free_ports([port])

    assert other != port
    assert again == [port]


def test_free_ports_are_all_different() -> None:
    (port,) = free_ports([0])

    ports = free_ports([port, port, *[0] * 200])

    assert ports[0] == port
    assert len(set(ports)) == len(ports)


FAULT = """
import os, sys, threading
from sandbox.demo.readiness import NotReady
from sandbox.demo.supervisor import Child, supervise
def refuse():
    raise NotReady("it is not ready")
options = {
    "fault": {"find_fault": lambda: "a server ended"},
    "refusal": {"announce": refuse},
}
children = [Child("a", [sys.executable, "-c", sys.argv[1]], os.environ)]
print("returned", supervise(children, **options[sys.argv[2]]), flush=True)
"""


@pytest.mark.parametrize(
    ("option", "text"), [("fault", "a server ended"), ("refusal", "it is not ready")]
)
def test_fault_is_printed_and_stops_all_children(option: str, text: str) -> None:
    with python(FAULT, SLEEPING, option) as process:
        output = process.stdout.read() if process.stdout else ""

    assert text in output
    assert "returned 1" in output
