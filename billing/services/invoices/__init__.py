"""The local record of Stripe's invoices, their locks, and who paid them.

Nothing here starts a payment: that is decided in `collection` and `payment_page`.
"""
