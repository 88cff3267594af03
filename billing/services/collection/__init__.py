"""Decides how and when an open invoice gets paid: by wallet, by card, or by the payer.

What excludes what is decided in `invoices.locks`, suspension in `dunning`.
"""
