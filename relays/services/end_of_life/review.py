"""Review of suspended relays."""

from datetime import datetime


def review_suspended_relays(*, now: datetime) -> None:
    """Offer exports and delete relays whose announced dates have come."""
    raise NotImplementedError
