"""State of Lightning invoices and wallet payments: issuing, polling, sending.

Only the wallet that issued an invoice decides whether it was paid (ADR 8).
"""
