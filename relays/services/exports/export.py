"""Export of one relay."""


def export_relay(*, export_id: int) -> None:
    """Export the next pages of a relay's events."""
    raise NotImplementedError
