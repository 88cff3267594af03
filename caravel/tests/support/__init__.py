"""Test helpers: hostile relays, real processes, a scanner for leaked secrets."""
