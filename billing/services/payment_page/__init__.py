"""Content of an invoice's payment page, and issuing a bolt11 at the payer's request.

Charging wallets and cards, and booking payments, is decided in `services.collection`.
"""
