"""Cells of the matrix that cannot pass. Each fails strictly if it begins to pass."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """The owner of a fault, and its effect."""

    owner: str
    effect: str

    def __str__(self) -> str:
        return f"{self.effect} ({self.owner})"


#: By case and counterpart.
KNOWN_FAULTS = {
    ("client_is_notified_of_a_received_payment_once", "Alby SDK, wallet"): Fault(
        "Alby SDK", "its wallet service cannot send notifications"
    ),
}
