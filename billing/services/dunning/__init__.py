"""When unpaid invoices switch relays off and on, and what tenants hear about money.

Decides suspension, purchase blocks, reminders, wallet warnings and the billing notices.
Charging and retrying belong to `collection`.
"""
