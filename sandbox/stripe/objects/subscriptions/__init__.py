"""Subscriptions: changes, renewal, prorations, cancellation."""
