"""Read-only invoices and signed receipts, for the API and the payment page.

Nothing is collected, changed or booked here.
"""
