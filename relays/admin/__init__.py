"""Admin pages of plans, relays and their exports."""

from relays.admin import exports, plans, relays

__all__ = ["exports", "plans", "relays"]
