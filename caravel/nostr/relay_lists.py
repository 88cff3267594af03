"""The relays that people say they use: for what they write, and for messages to them.

Both lists come from strangers. What is no relay's address is left out, and of long
ones only the beginning counts.
"""

from collections.abc import Iterable

from caravel.nostr.events import Event
from caravel.nostr.relays.dial import read_relay

#: Where they write and read (NIP-65), and where messages are to be sent (NIP-17).
RELAY_LIST, MESSAGE_RELAYS = 10002, 10050
#: How many relays of a stranger's list are used.
MOST_RELAYS = 5
_LONGEST = 200


def latest(events: Iterable[Event], *, pubkey: str, kind: int) -> Event | None:
    """Return the event that counts of a replaceable kind (NIP-01), if there is one."""
    fitting = [e for e in events if e.pubkey == pubkey and e.kind == kind]
    return min(fitting, key=lambda event: (-event.created_at, event.id), default=None)


def write_relays(relay_list: Event) -> list[str]:
    """Return the relays that its author writes to: marked so, or not marked."""
    return _relays(
        tag[1]
        for tag in relay_list.tags
        if tag[:1] == ("r",) and len(tag) > 1 and tag[2:3] in ((), ("",), ("write",))
    )


def message_relays(event: Event) -> list[str]:
    """Return the relays that its author wants messages on."""
    return _relays(event.values("relay"))


def _relays(texts: Iterable[str]) -> list[str]:
    found = dict.fromkeys(filter(None, map(_relay, texts)))
    return list(found)[:MOST_RELAYS]


def _relay(text: str) -> str:
    """Return a relay's address in one spelling, or nothing if it is none.

    A slash at the end makes no other relay of it.
    """
    text = text.strip()
    if not text.isascii() or len(text) > _LONGEST:
        return ""
    return read_relay(text).rstrip("/")
