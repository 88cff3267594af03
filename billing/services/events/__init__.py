"""The webhook inbox: events are stored first, then processed by a task.

Decides which event concerns which tenant, and when to give up. An event is only a hint:
the object is read again from Stripe before anything changes.
"""
