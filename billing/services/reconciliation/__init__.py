"""Comparison of all subscriptions at Stripe with the relays, by lists and one query.

Decides when it runs, what it lists, and for which tenants a sync is due; what a sync
does is up to `subscriptions`.
"""
