"""An index of items by several keys each, in insertion order."""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from sandbox.nostr.filters import Key

T = TypeVar("T", bound=Hashable)


class Index(Generic[T]):
    """Items by key; one item can have several keys."""

    def __init__(self) -> None:
        self._items: dict[Key, dict[T, None]] = {}

    def add(self, keys: Iterable[Key], item: T) -> None:
        """Add an item under each key."""
        for key in keys:
            self._items.setdefault(key, {})[item] = None

    def remove(self, keys: Iterable[Key], item: T) -> None:
        """Remove an item that was added under these keys."""
        for key in keys:
            items = self._items[key]
            del items[item]
            if not items:
                del self._items[key]

    def __len__(self) -> int:
        return len({item for items in self._items.values() for item in items})

    def find(self, keys: Iterable[Key]) -> list[T]:
        """Return the items under any of the keys, each once."""
        items: dict[T, None] = {}
        for key in keys:
            items.update(self._items.get(key, {}))
        return list(items)
