"""A stateful stand-in for Stripe that stripe-python talks to unchanged."""

API_VERSION = "2026-10-28.endive"
