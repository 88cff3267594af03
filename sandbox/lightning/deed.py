"""What a deed is: something a program or a form can do to the sandbox."""

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
class Deed:
    """`act(lightning, fields, *about)`, the fields it knows, and what the page says."""

    act: Callable[..., Answer]
    fields: tuple[str, ...]
    said: str

    @property
    def name(self) -> str:
        """A word for it that an address can have."""
        return self.act.__name__
