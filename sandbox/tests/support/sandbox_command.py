"""The command `manage.py sandbox` in an environment without any configuration."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caravel.tests.support.processes import bounded, default_signals

ROOT = Path(__file__).resolve().parents[3]
_CONFIGURATION = re.compile(
    r"DATABASE_URL|REDIS_URL|DEBUG|STRIPE_|CARAVEL_|SECRET_KEY|APP_URL|DJANGO_"
    r"|ROBOT_|BTC_|NWC_|LIGHTNING_|NOSTR_|SANDBOX_"
)


def clean_environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment variables without Caravel's own settings."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not _CONFIGURATION.match(name)
    }
    return {**others, "CARAVEL_VAR": str(tmp_path / "var")}


@contextmanager
def running_command(
    tmp_path: Path, *options: str, only: str = "stripe", **env: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start the command; yield the process and the usage text that it prints."""
    with default_signals():
        process = subprocess.Popen(
            [sys.executable, "manage.py", "sandbox", "--only", only, *options],
            cwd=ROOT,
            env={**clean_environment(tmp_path), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with process, bounded(process):
        yield process, _read_usage(process)


def search(pattern: str, screen: str) -> str:
    """Return the first group of a match that must exist."""
    match = re.search(pattern, screen)
    assert match, screen
    return match[1]


def _read_usage(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    text = ""
    while "Ctrl-C" not in text:
        line = process.stdout.readline()
        assert line, text
        text += line
    return text
