"""Relays and their plans: the product that tenants pay for."""
