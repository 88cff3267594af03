"""Clients of the sandbox for tests: over a socket and in process."""
