"""Reconciliations, and drifts that they find."""
