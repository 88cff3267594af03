"""Database building blocks: encrypted fields, outbox, leases, transactions."""
