"""Cells of the matrix that cannot pass. Each fails strictly if it begins to pass."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """The owner of a fault, and its effect."""

    owner: str
    effect: str

    def __str__(self) -> str:
        return f"{self.effect} ({self.owner})"


# NIP-47's requests have ephemeral kinds, which relays need not store (NIP-01).
_EPHEMERAL = Fault("NIP-01 and NIP-47", "the relay stores no ephemeral events")
_STORED = "request_sent_before_the_service_starts_is_answered"

#: By case and counterpart.
KNOWN_FAULTS = {
    **{
        (_STORED, f"{relay}{authentication}"): _EPHEMERAL
        for relay in ("nostr-sdk LocalRelay", "@nostr-relay/core")
        for authentication in ("", ", AUTH to read", ", AUTH")
    },
    ("client_is_notified_of_a_received_payment_once", "Alby SDK, wallet"): Fault(
        "Alby SDK", "its wallet service cannot send notifications"
    ),
}

_NO_NIP42 = Fault(
    "nostr-relay",
    "it refuses by NOTICE and an OK without an id, and answers no AUTH: test_relays.py",
)
#: By counterpart: no case can pass, so that only one is run.
ROWS_WITH_FAULT = {
    "nostr-relay (PyPI), AUTH to read": _NO_NIP42,
    "nostr-relay (PyPI), AUTH": _NO_NIP42,
}
PROBE = "info_has_name_network_and_methods"


def fault_of(case: str, counterpart: str) -> Fault | None:
    """Return the fault for which a cell cannot pass, None if it must pass."""
    return ROWS_WITH_FAULT.get(counterpart) or KNOWN_FAULTS.get((case, counterpart))
