"""Money owed to tenants, posted at Stripe once.

Decides how a credit is divided between an invoice and the customer's balance; the
reason and amount of a credit are decided by its source.
"""
