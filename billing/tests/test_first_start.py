"""The first start of an installation, in the order of README's "Operate it"."""

import os
import re
import subprocess
import sys

import pytest

from billing.tests.support import processes
from caravel.tests.test_environment import PRODUCTION

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.processes,
]

URL = "https://caravel.example/stripe/webhook"


@pytest.fixture
def env(sandbox, settings, tmp_path):
    """A production environment in which only the webhook's secret is missing."""
    database = processes.environment()["DATABASE_URL"]
    return {
        **PRODUCTION,
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database,
        "REDIS_URL": settings.REDIS_URL,
        "STRIPE_SECRET_KEY": settings.STRIPE_SECRET_KEY,
        "STRIPE_API_BASE": sandbox.url,
        "ROBOT_WALLET": settings.ROBOT_WALLETS[0],
        "CARAVEL_VAR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "caravel.settings",
    }


def run(env, *arguments):
    """Run Python; return the exit status and the output."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=processes.ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return process.returncode, process.stdout + process.stderr


def test_stripe_setup_prints_the_secret_without_which_web_does_not_start(env):
    status, output = run(env, "-c", "import caravel.wsgi")
    assert status != 0
    assert f"manage.py stripe_setup --webhook-url {URL}" in output

    status, output = run(env, "manage.py", "stripe_setup", "--webhook-url", URL)
    assert status == 0, output
    (secret,) = re.findall(r"^STRIPE_WEBHOOK_SECRET=(whsec_\S+)$", output, re.MULTILINE)

    status, output = run(
        {**env, "STRIPE_WEBHOOK_SECRET": secret}, "-c", "import caravel.wsgi"
    )
    assert status == 0, output


@pytest.mark.parametrize("command", ["migrate", "check", "reconcile"])
def test_commands_run_without_the_webhook_secret(env, prices, command):
    status, output = run(env, "manage.py", command)

    assert status == 0, output
