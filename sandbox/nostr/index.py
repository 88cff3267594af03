"""Things that are found by keys, in the order in which they were added."""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from sandbox.nostr.filters import Key

T = TypeVar("T", bound=Hashable)


class Index(Generic[T]):
    """Each item stands under several keys."""

    def __init__(self) -> None:
        self._found: dict[Key, dict[T, None]] = {}

    def add(self, keys: Iterable[Key], item: T) -> None:
        """Put a item under each key."""
        for key in keys:
            self._found.setdefault(key, {})[item] = None

    def remove(self, keys: Iterable[Key], item: T) -> None:
        """Take away what was added under these keys."""
        for key in keys:
            found = self._found[key]
            del found[item]
            if not found:
                del self._found[key]

    def __len__(self) -> int:
        return len({item for found in self._found.values() for item in found})

    def find(self, keys: Iterable[Key]) -> list[T]:
        """Return what stands under any of the keys, each item once."""
        found: dict[T, None] = {}
        for key in keys:
            found.update(self._found.get(key, {}))
        return list(found)
