"""Relay connections: dialling, one shared connection per relay, pending replies, pool."""
