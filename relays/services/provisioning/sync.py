"""Sync of one relay with zooid."""

from uuid import UUID


def sync_relay(*, relay_id: UUID) -> None:
    """Bring zooid's configuration of a relay up to date, and prove it by NIP-11."""
    raise NotImplementedError
