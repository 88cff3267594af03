"""Switching relays off for unpaid invoices and on again, and all billing notices.

Decides suspension, purchase blocks, reminders and wallet warnings. Charging and
retrying belong to `collection`.
"""
