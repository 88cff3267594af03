"""Exports of a relay's events."""
