"""Reading from Stripe's lists what lost webhooks should have reported.

Decides how far back each list is read. Events are processed like delivered ones; lists
of objects have the last word, since events are kept for 30 days only.
"""
