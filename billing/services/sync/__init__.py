"""Queue of subscription syncs: one at a time per tenant, on any host.

Decides when a sync runs; what it does is up to `subscriptions`.
"""
