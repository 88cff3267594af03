"""Secrets that a run of the tests makes, and finding them in what was logged.

What is logged is what production would write at LOG_LEVEL=DEBUG: each line has passed
the redactor, which knows secrets by their form or their name only. Here the secrets
themselves are known.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_KEY = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{64,}", re.IGNORECASE)
_IN_URL = re.compile(r"secret(?:=|%3D)([0-9a-f]{64})", re.IGNORECASE)
#: What can only be secret, unless the redactor has been there.
_FORMS = re.compile(
    r"nostr(?:\+|%2B)?walletconnect(?::|%3A)(?!\[redacted\])[^\s\"'<>]+"
    r"|nsec1[02-9ac-hj-np-z]{20,}"
    r"|(?:sk|rk)_(?:test|live)_\w+|whsec_[\w+/=]+"
    r"|gAAAAA[\w-]{40,}",  # a Fernet token
    re.IGNORECASE,
)


class Leak(NamedTuple):
    """A line that holds a secret, and which logger wrote it; the secret is masked."""

    file: str
    line: int
    logger: str
    text: str


class Secrets:
    """What must not be logged: keys and preimages in hex, and other texts."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._texts: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys) + len(self._texts)

    def add(self, text: str) -> str:
        """Take up a key, or those in a wallet's address, and return the text."""
        found = [text] if _KEY.fullmatch(text) else _IN_URL.findall(text)
        # What a test has written down with a few digits, such as "ab" * 32, is none.
        self._keys.update(key.lower() for key in found if len(set(key)) > 6)
        return text

    def add_text(self, text: str) -> None:
        """Take up a secret of another form."""
        self._texts.add(text)

    def found_in(self, line: str) -> list[str]:
        """Return each secret in a line."""
        keys = [key for run in _HEX.findall(line) for key in self._keys_in(run)]
        texts = [text for text in self._texts if text in line]
        return [*keys, *texts, *_FORMS.findall(line)]

    def _keys_in(self, run: str) -> Iterator[str]:
        for start in range(len(run) - 63):
            if (key := run[start : start + 64]).lower() in self._keys:
                yield key


#: Those of this run, and the files that they must not be in.
secrets = Secrets()
files: list[Path] = []


def watch(path: Path) -> Path:
    """Have a log searched at the end of the run, and return its path."""
    files.append(path)
    return path


def leaks(paths: Iterable[Path], secrets: Secrets) -> list[Leak]:
    """Return each line of these logs that holds a secret."""
    return [
        Leak(path.name, number, _logger_of(line), _masked(line, found))
        for path in dict.fromkeys(paths)
        for number, line in _lines(path)
        if (found := secrets.found_in(line))
    ]


@contextmanager
def recording(path: Path, logger: logging.Logger) -> Iterator[None]:
    """Write down all that a logger gets, as production would at LOG_LEVEL=DEBUG.

    The handlers that it has get no more than before.
    """
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_production().formatter)
    least, others = logger.level, {h: h.level for h in logger.handlers}
    for other, level in others.items():
        other.setLevel(max(level, least))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(least)
        logger.removeHandler(handler)
        for other, level in others.items():
            other.setLevel(level)
        handler.close()


def _production() -> logging.Handler:
    handlers = logging.getLogger().handlers
    (found,) = (one for one in handlers if type(one) is logging.StreamHandler)
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as log:
        yield from enumerate(log, 1)


def _logger_of(line: str) -> str:
    try:
        return str(json.loads(line)["logger"])
    except (ValueError, KeyError, TypeError):
        return "?"


def _masked(line: str, found: Iterable[str]) -> str:
    for secret in found:
        line = line.replace(secret, f"[{secret[:4]}… is secret]")
    return line.strip()[:500]
