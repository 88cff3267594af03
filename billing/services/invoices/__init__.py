"""The local record of Stripe's invoices, their locks, payers and payment links.

Nothing here starts a payment: that is decided in `collection` and `payment_page`.
"""
