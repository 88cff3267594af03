"""Database building blocks: encrypted fields, transactional outbox, transactions."""
