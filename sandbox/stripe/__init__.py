"""Stateful Stripe server for development and tests; stripe-python works unchanged."""

# Separate from the constant in billing on purpose: if they differ, requests fail.
API_VERSION = "2026-10-28.endive"
