"""A tenant as a customer of Stripe: its customer, portal, and the end of its account.

Also the plans' prices at Stripe. What a customer is charged is decided elsewhere.
"""
