"""Lightning invoices, payments by Nostr Wallet Connect, and the exchange rate.

Decides when an invoice counts as paid. When one is issued, and for what, is decided in
`billing`.
"""
