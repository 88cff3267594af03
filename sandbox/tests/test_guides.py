"""The shell sessions in the guides of `docs/sandbox` work as printed."""

import re
import subprocess

import pytest

from sandbox.lightning import running_lightning
from sandbox.stripe.client.testing import running_sandbox
from sandbox.tests.support.sandbox_command import ROOT
from sandbox.zooid import running_zooid

pytestmark = pytest.mark.processes
STAND_INS = {
    "stripe": (running_sandbox, "http://127.0.0.1:12111"),
    "lightning": (running_lightning, "http://127.0.0.1:12112"),
    "zooid": (running_zooid, "http://127.0.0.1:12114"),
}
#: Printed before each command's output.
MARK = "=== next ==="


@pytest.mark.parametrize("name", STAND_INS)
def test_each_command_in_the_guide_prints_what_the_guide_says(name):
    running, address = STAND_INS[name]
    session = read_session(name)

    with running() as stand_in:
        commands = [command.replace(address, stand_in.url) for command, _ in session]
        outputs = run(commands)

    assert len(session) > 5
    for (command, expected), output in zip(session, outputs, strict=True):
        assert re.fullmatch(pattern(expected), output), f"$ {command}\n{output}"


def read_session(name: str) -> list[tuple[str, str]]:
    """Return the commands of a guide, each with its expected output."""
    text = (ROOT / "docs" / "sandbox" / f"{name}.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)


def run(commands: list[str]) -> list[str]:
    """Run the commands in one shell and return the output of each."""
    lines = [f"echo '{MARK}'\n{command}\necho" for command in commands]
    # Aliases are expanded in interactive shells only, unless told otherwise.
    script = "\n".join(["shopt -s expand_aliases", *lines])
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr + result.stdout
    return [output.strip() for output in result.stdout.split(MARK)[1:]]


def pattern(expected: str) -> str:
    """Return the regular expression of an output in which `…` is any text."""
    return ".*".join(map(re.escape, expected.strip().split("…")))
