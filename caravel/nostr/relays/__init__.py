"""Relay connections: one shared connection per relay, and a pool of them."""
