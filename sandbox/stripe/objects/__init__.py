"""Stripe's objects: endpoints, rendering, and how they affect each other."""
