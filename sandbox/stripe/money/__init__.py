"""Currencies and rounding."""
