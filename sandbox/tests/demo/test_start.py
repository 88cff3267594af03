"""`make run` that cannot start says why, and `make reset` deletes its data."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caravel import embedded
from caravel.tests.support.waiting import LIMIT
from sandbox.clock import VARIABLE, write_offset
from sandbox.demo import welcome
from sandbox.demo.system import CLOCK
from sandbox.tests.support.running_system import ROOT, clean_environment


def run_module(name: str, var: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", name],
        cwd=ROOT,
        env={**clean_environment(var), **env},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


@pytest.mark.parametrize("name", ["PORT", "STRIPE_PORT", "ZOOID_PORT"])
@pytest.mark.parametrize("value", ["abc", "99999", "-1", "8000.5", "٨٠٠٠"])
def test_port_that_is_none_stops_the_start_with_its_name(tmp_path, name, value):
    ended = run_module("sandbox.demo.run", tmp_path, **{name: value})

    assert (ended.returncode, ended.stderr) == (
        1,
        f"{name} must be a number from 0 to 65535: {value!r}.\n",
    )


def write_secrets(var: Path, content: bytes) -> None:
    (var / "development.env").write_bytes(content)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "secrets without a value": (
        "development.env",
        lambda var: write_secrets(var, b"SECRET_KEY"),
    ),
    "blank secret": (
        "development.env",
        lambda var: write_secrets(var, b"ROBOT_SECRET=\n"),
    ),
    "secrets that are no text": (
        "development.env",
        lambda var: write_secrets(var, b"\xff\xfe"),
    ),
    "addresses without a value": (
        "run.env",
        lambda var: (var / "run.env").write_text("APP_URL\n"),
    ),
    "clock that is no number": (
        CLOCK,
        lambda var: (var / CLOCK).symlink_to("no number"),
    ),
    "clock that is a file": (CLOCK, lambda var: (var / CLOCK).write_text("0")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_stops_the_start_with_its_name(tmp_path, damage):
    name, inflict = DAMAGES[damage]
    inflict(tmp_path)

    ended = run_module("sandbox.demo.run", tmp_path)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{tmp_path / name} cannot be read")
    assert "`make reset` deletes it" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_command_with_damaged_secrets_names_the_file(tmp_path):
    write_secrets(tmp_path, b"SECRET_KEY")
    manage = [sys.executable, "manage.py", "check"]

    ended = subprocess.run(
        manage,
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )

    assert ended.returncode == 1
    assert ended.stderr == f"{tmp_path / 'development.env'} cannot be read.\n"


def test_second_start_is_refused_before_it_tells_of_ports(tmp_path):
    with (
        embedded.template(tmp_path),
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        port = str(taken.getsockname()[1])
        ended = run_module("sandbox.demo.run", tmp_path, PORT=port)

    assert ended.returncode == 1
    assert "already run" in ended.stderr
    assert ended.stderr.endswith("Stop it first.\n")
    assert "is taken" not in ended.stdout


def test_reset_deletes_the_data(tmp_path):
    var = tmp_path / "var"
    var.mkdir()
    (var / "embedded.lock").touch()
    (var / "sandbox-stripe.sqlite").touch()

    ended = run_module("sandbox.demo.reset", var)

    assert (ended.returncode, ended.stdout) == (0, f"Deleted {var}.\n")
    assert not var.exists()


def test_reset_spares_a_directory_without_data_of_ours(tmp_path):
    (tmp_path / "letters.txt").touch()

    ended = run_module("sandbox.demo.reset", tmp_path)

    assert (ended.returncode, ended.stdout) == (0, f"No data in {tmp_path}.\n")
    assert (tmp_path / "letters.txt").exists()


def test_reset_is_refused_while_the_servers_run(tmp_path):
    with embedded.template(tmp_path):
        ended = run_module("sandbox.demo.reset", tmp_path)

        assert ended.returncode == 1
        assert "already run" in ended.stderr
        assert ended.stderr.endswith("Stop it first.\n")
        assert (tmp_path / "postgres").exists()


def test_clean_is_refused_while_the_servers_run(tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o700)
    (tmp_path / ".venv" / ".ready").touch()
    clean = ["make", "--file", str(ROOT / "Makefile"), "clean"]
    env = {**clean_environment(tmp_path / "var"), "PYTHONPATH": str(ROOT)}
    (tmp_path / "var").mkdir()

    with embedded.template(tmp_path / "var"):
        refused = subprocess.run(clean, cwd=tmp_path, env=env, capture_output=True)
        assert refused.returncode != 0
        assert b"Stop it first." in refused.stderr
        assert (tmp_path / "var" / "postgres").exists()
        assert python.exists()
    subprocess.run(clean, cwd=tmp_path, env=env, capture_output=True, check=True)

    assert list(tmp_path.iterdir()) == []


#: What the first screen takes from the environment.
ADDRESSES = ("APP_URL", "ADMIN_PASSWORD", "STRIPE_API_BASE", "SANDBOX_LIGHTNING")


@pytest.mark.parametrize(("days", "told"), [(0, False), (31, True)])
def test_first_screen_tells_whether_time_is_ahead(tmp_path, days, told):
    names = (*ADDRESSES, "ZOOID_API_URL", "RELAY_DOMAIN", "CARAVEL_VAR")
    env = {**dict.fromkeys(names, "x"), VARIABLE: str(tmp_path / CLOCK)}
    write_offset(tmp_path / CLOCK, days * 86_400.0)

    assert ("Its clock is 31 days ahead" in welcome.screen(env)) == told
