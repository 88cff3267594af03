"""`manage.py sandbox --only lightning`: on a fresh checkout, with nothing else."""

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

FREE = ("--lightning-port", "0", "--nostr-port", "0")


def alone(tmp_path, *options, **env):
    return running_command(tmp_path, *FREE, *options, only="lightning", **env)


def test_what_the_screen_says_is_true(tmp_path):
    with alone(tmp_path) as (process, screen):
        url = search(r"sandbox Lightning on (http://\S+)", screen)
        assert f"page      {url}/" in screen
        page = urllib.request.urlopen(f"{url}/", timeout=10).read()
        assert b"Sandbox Lightning" in page
        state = urllib.request.urlopen(search(r"control\s+(\S+)", screen), timeout=10)
        assert json.load(state)["wallets"] == 5
        first, second = [
            run(line.strip()) for line in screen.splitlines() if "curl" in line
        ]
        assert json.loads(first)["currency"] == "USD"
        assert json.loads(second)["amount_msat"] == 21_000

        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)

    assert (process.returncode, rest) == (0, "")
    assert not (tmp_path / "var" / "postgres").exists()


def run(line):
    done = subprocess.run(shlex.split(line), capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_our_wallet_is_the_one_that_the_settings_of_the_checkout_name(tmp_path):
    with alone(tmp_path) as (_, screen):
        url = search(r"sandbox Lightning on (http://\S+)", screen)
        relay = search(r"relay\s+(ws://\S+)", screen)
        ours = Control(url).get("wallets/platform")["url"]

    seed = dev_defaults.defaults(tmp_path / "var")["SANDBOX_SEED"]
    assert ours == dev_defaults.sandbox_wallet(seed, "platform", relay)
    default = dev_defaults.defaults(tmp_path / "var")["ROBOT_WALLET"]
    assert default == dev_defaults.sandbox_wallet(
        seed, "platform", dev_defaults.SANDBOX_RELAY
    )
    assert seed not in screen


def test_a_restart_keeps_wallets_even_after_a_kill(tmp_path):
    options = ("--wallets", str(tmp_path / "wallets.sqlite"))
    urls, balances = [], []
    for _ in range(2):
        with alone(tmp_path, *options, SANDBOX_SEED="x") as (process, screen):
            control = Control(search(r"sandbox Lightning on (http://\S+)", screen))
            bolt11 = control.post("wallets/platform/invoices", sats=21)["bolt11"]
            rich = control.get("wallets/rich")["url"]
            with wallet_client(rich) as client:
                client.call("pay_invoice", invoice=bolt11)
            urls.append(rich.partition("?")[0])
            balances.append(control.get("wallets/rich")["balance_msat"])
            process.kill()
            process.wait(20)

    assert urls[0] == urls[1]
    assert balances == [10**10 - 21_000, 10**10 - 42_000]


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_text("no database " * 100)
    with running_lightning() as taken:
        port = taken.url.rpartition(":")[2]
        faults = {
            ("--lightning-port", port): f"cannot listen on 127.0.0.1:{port}: Address",
            ("--wallets", str(broken)): f"{broken} cannot be read",
        }
        for options, sentence in faults.items():
            done = subprocess.run(
                [sys.executable, "-m", "sandbox.lightning", *FREE, *options],
                cwd=ROOT,
                env=clean_environment(tmp_path),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

            assert done.returncode == 1
            assert sentence in done.stderr
            assert len(done.stderr.splitlines()) == 1
