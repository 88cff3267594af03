"""Authentication of clients to a relay (NIP-42)."""

from urllib.parse import urlsplit

from sandbox.common.nostr import Event

AUTH_KIND = 22_242
# Seconds; NIP-42 says about ten minutes.
MAX_AGE = 600


def rejection_reason(
    event: Event, *, challenge: str, host: str, now: float
) -> str | None:
    """Return why an AUTH event is invalid for this connection, or None.

    `host` is the Host header of the connection, with the port.
    """
    if event.kind != AUTH_KIND:
        return "the kind is not 22242"
    if event.values("challenge") != [challenge]:
        return "this is not the challenge of the connection"
    if [_host(url) for url in event.values("relay")] != [host.lower()]:
        return "this is not the address of the relay"
    if abs(event.created_at - now) > MAX_AGE:
        return "the event is too old or too new"
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
