"""Queue of relays that zooid may not serve as configured."""

from uuid import UUID


def mark_stale(*, relay_id: UUID) -> None:
    """Record, in the caller's transaction, that a relay needs a sync, and enqueue it.

    A message that is on its way covers later changes too.
    """
    raise NotImplementedError
