"""What a command is: something a program or a form can do to the sandbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]


class Refused(Exception):
    """It cannot be done; the message says why, `status` as HTTP does."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Command:
    """`run(lightning, fields, *args)`, the fields it knows, and what the page says."""

    run: Callable[..., Answer]
    fields: tuple[str, ...]
    said: str

    @property
    def name(self) -> str:
        """A word for it that an address can have."""
        return self.run.__name__
