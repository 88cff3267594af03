"""Reading Stripe's lists, to find objects and events whose webhooks were lost.

Decides how far back each list is read. Events are processed like delivered ones; lists
of objects have the last word, since events are kept for 30 days only.
"""
