"""A command: an action that a program or a form can run on the sandbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]


class Refused(Exception):
    """A command that cannot be run; has a message and an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Command:
    """`run(lightning, fields, *args)`, its known fields, and the page's message."""

    run: Callable[..., Answer]
    fields: tuple[str, ...]
    message: str

    @property
    def name(self) -> str:
        """The name of the function; it appears in URLs."""
        return self.run.__name__
