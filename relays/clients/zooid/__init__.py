"""Management API of zooid."""

from relays.clients.zooid.client import Zooid

__all__ = ["Zooid"]
