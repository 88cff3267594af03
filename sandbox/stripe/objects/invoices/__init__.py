"""Invoices: items, finalization, payment, collection."""
