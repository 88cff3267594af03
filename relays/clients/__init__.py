"""Clients of zooid: its management API, and the relays that it serves."""
