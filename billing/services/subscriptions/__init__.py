"""Each tenant's one Stripe subscription, made to match its billable relays.

Decides what is created, changed and cancelled, and how much unused time an ended
subscription leaves; posting that credit belongs to `credits`.
"""
