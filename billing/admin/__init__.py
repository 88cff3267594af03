"""Billing in Django admin: money rows are read-only, actions call services."""

from billing.admin import (
    collections,
    credits,
    events,
    reconciliation,
    reversals,
    subscriptions,
    tenants,
)

__all__ = [
    "collections",
    "credits",
    "events",
    "reconciliation",
    "reversals",
    "subscriptions",
    "tenants",
]
