"""Search of log files for secrets that a test run has generated.

The logs are those of production at LOG_LEVEL=DEBUG, so each line has been redacted. The
redaction knows secrets by their format or name only; here their values are known.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

_KEY = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{64,}", re.IGNORECASE)
_IN_URL = re.compile(r"secret(?:=|%3D)([0-9a-f]{64})", re.IGNORECASE)
#: Formats of secrets that were not redacted.
_FORMATS = re.compile(
    r"nostr(?:\+|%2B)?walletconnect(?::|%3A)(?!\[redacted\])[^\s\"'<>]+"
    r"|nsec1[02-9ac-hj-np-z]{20,}"
    r"|(?:sk|rk)_(?:test|live)_\w+|whsec_[\w+/=]+"
    r"|gAAAAA[\w-]{40,}",  # a Fernet token
    re.IGNORECASE,
)


class Leak(NamedTuple):
    """Line with a secret, which is masked here, and the logger that wrote it."""

    file: str
    line: int
    logger: str
    text: str


class Secrets:
    """Set of secrets: keys and preimages in hex, and other texts."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._texts: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys) + len(self._texts)

    def add(self, text: str) -> str:
        """Add a key, or the keys in an NWC URI, and return the text."""
        keys = [text] if _KEY.fullmatch(text) else _IN_URL.findall(text)
        # Not constants of tests such as "ab" * 32.
        self._keys.update(key.lower() for key in keys if len(set(key)) > 6)
        return text

    def add_text(self, text: str) -> None:
        """Add a secret in another format."""
        self._texts.add(text)

    def find_in(self, line: str) -> list[str]:
        """Return all secrets in a line."""
        keys = [key for run in _HEX.findall(line) for key in self._keys_in(run)]
        texts = [text for text in self._texts if text in line]
        return [*keys, *texts, *_FORMATS.findall(line)]

    def _keys_in(self, run: str) -> Iterator[str]:
        for start in range(len(run) - 63):
            if (key := run[start : start + 64]).lower() in self._keys:
                yield key


#: The secrets of this run, and the log files to search at its end.
secrets = Secrets()
files: list[Path] = []


def watch(path: Path) -> Path:
    """Add a log to be searched at the end of the run; return its path."""
    files.append(path)
    return path


def find_leaks(paths: Iterable[Path], secrets: Secrets) -> list[Leak]:
    """Return all lines of the logs that contain a secret."""
    return [
        Leak(path.name, number, _logger_of(line), _mask(line, leaked))
        for path in dict.fromkeys(paths)
        for number, line in _lines(path)
        if (leaked := secrets.find_in(line))
    ]


@contextmanager
def recording(path: Path, logger: logging.Logger) -> Iterator[None]:
    """Write a logger's lines to a file, as production would at LOG_LEVEL=DEBUG.

    Other handlers get the same lines as before.
    """
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_production_handler().formatter)
    previous, others = logger.level, {h: h.level for h in logger.handlers}
    for other, level in others.items():
        other.setLevel(max(level, previous))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(previous)
        logger.removeHandler(handler)
        for other, level in others.items():
            other.setLevel(level)
        handler.close()


def assert_recorded(path: Path) -> None:
    """Check that a line logged now is written to the file of `recording`."""
    mark = token_hex(8)
    logging.getLogger("any.library").debug("%s", mark)
    assert mark in path.read_text()


def _production_handler() -> logging.Handler:
    handlers = logging.getLogger().handlers
    (handler,) = (h for h in handlers if type(h) is logging.StreamHandler)
    return handler


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as log:
        yield from enumerate(log, 1)


def _logger_of(line: str) -> str:
    try:
        return str(json.loads(line)["logger"])
    except (ValueError, KeyError, TypeError):
        return "?"


def _mask(line: str, leaked: Iterable[str]) -> str:
    for secret in leaked:
        line = line.replace(secret, f"[{secret[:4]}… is secret]")
    return line.strip()[:500]
