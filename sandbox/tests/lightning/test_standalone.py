"""`manage.py sandbox --only lightning` in an environment without any configuration."""

import json
import shlex
import signal
import subprocess
import sys
import urllib.request

import pytest

from caravel import dev_defaults
from sandbox.lightning import running_lightning
from sandbox.lightning.client import Control
from sandbox.tests.support.sandbox_command import (
    ROOT,
    clean_environment,
    running_command,
    search,
)
from sandbox.tests.support.wallet_client import wallet_client

pytestmark = pytest.mark.processes

FREE_PORTS = ("--lightning-port", "0", "--nostr-port", "0")


def standalone(tmp_path, *options, **env):
    return running_command(tmp_path, *FREE_PORTS, *options, only="lightning", **env)


def test_printed_commands_urls_and_wallets_of_sandbox_lightning_work(tmp_path):
    with standalone(tmp_path) as (process, screen):
        url = search(r"sandbox Lightning on (http://\S+)", screen)
        assert f"page      {url}/" in screen
        page = urllib.request.urlopen(f"{url}/", timeout=60).read()
        assert b"Sandbox Lightning" in page
        state = urllib.request.urlopen(search(r"control\s+(\S+)", screen), timeout=60)
        assert json.load(state)["wallets"] == 5
        first, second = [
            run_shell(line.strip()) for line in screen.splitlines() if "curl" in line
        ]
        assert json.loads(first)["currency"] == "USD"
        assert json.loads(second)["amount_msat"] == 21_000
        assert_platform_wallet_is_the_one_of_the_settings(tmp_path, screen)

        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

    assert (process.returncode, rest) == (0, "")
    assert not (tmp_path / "var" / "postgres").exists()


def run_shell(line):
    process = subprocess.run(shlex.split(line), capture_output=True, timeout=60)
    assert process.returncode == 0, process.stderr
    return process.stdout


def assert_platform_wallet_is_the_one_of_the_settings(tmp_path, screen):
    url = search(r"sandbox Lightning on (http://\S+)", screen)
    relay = search(r"relay\s+(ws://\S+)", screen)
    defaults = dev_defaults.defaults(tmp_path / "var")
    seed = defaults["SANDBOX_SEED"]
    own_url = Control(url).get("wallets/platform")["url"]
    assert own_url == dev_defaults.sandbox_wallet(seed, "platform", relay)
    assert defaults["ROBOT_WALLET"] == dev_defaults.sandbox_wallet(
        seed, "platform", dev_defaults.SANDBOX_RELAY
    )
    assert seed not in screen


def test_wallets_survive_a_kill_and_restart(tmp_path):
    options = ("--wallets", str(tmp_path / "wallets.sqlite"))
    urls, balances = [], []
    for _ in range(2):
        with standalone(tmp_path, *options, SANDBOX_SEED="x") as (process, screen):
            control = Control(search(r"sandbox Lightning on (http://\S+)", screen))
            bolt11 = control.post("wallets/platform/invoices", sats=21)["bolt11"]
            rich = control.get("wallets/rich")["url"]
            with wallet_client(rich) as client:
                client.call("pay_invoice", invoice=bolt11)
            urls.append(rich.partition("?")[0])
            balances.append(control.get("wallets/rich")["balance_msat"])
            process.kill()
            process.wait(60)

    assert urls[0] == urls[1]
    assert balances == [10**10 - 21_000, 10**10 - 42_000]


def test_startup_error_of_sandbox_lightning_is_one_line(tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_text("no database " * 100)
    with running_lightning() as running:
        port = running.url.rpartition(":")[2]
        errors = {
            ("--lightning-port", port): f"cannot listen on 127.0.0.1:{port}: Address",
            ("--wallets", str(broken)): f"{broken} cannot be read",
        }
        started = [start(tmp_path, *options) for options in errors]
        for process, message in zip(started, errors.values(), strict=True):
            _, stderr = process.communicate(timeout=60)

            assert process.returncode == 1
            assert message in stderr
            assert len(stderr.splitlines()) == 1


def start(tmp_path, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox.lightning", *FREE_PORTS, *options],
        cwd=ROOT,
        env=clean_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
