"""Stripe objects, one module per noun, and what binds them together."""
