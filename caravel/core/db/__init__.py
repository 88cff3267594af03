"""Database building blocks: encrypted fields, the transactional outbox, transactions."""
