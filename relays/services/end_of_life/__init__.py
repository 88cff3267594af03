"""Suspended relays: the offer of an export, and deletion on the announced date."""
