"""Reconciliation: NIP-11 probes of all relays."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID


def claim_due(*, now: datetime) -> list[list[UUID]]:
    """Return batches of relays that have not been probed for a while."""
    raise NotImplementedError


def probe_relays(*, relay_ids: Sequence[UUID]) -> None:
    """Probe relays at once; make a sync due for those that differ."""
    raise NotImplementedError
