"""Admin pages of plans, relays and their exports."""

from relays.admin import exports, relays

__all__ = ["exports", "relays"]
