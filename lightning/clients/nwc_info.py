"""A wallet's info event (kind 13194), cached: how to encrypt requests to it."""

import re
import time
from collections.abc import Sequence

from caravel.core.db.transactions import release_connection
from caravel.nostr.encryption import Scheme
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import FetchResult, get_pool
from lightning.clients.nwc_uri import NwcUri
from lightning.exceptions import RequestNotSent

INFO = 13194
_TIMEOUT = 5.0
#: Seconds that a wallet's encryption scheme is cached, with and without an info event.
_TTL, _DEFAULT_TTL = 600.0, 30.0

_schemes: dict[tuple[str, tuple[str, ...]], tuple[Scheme, float]] = {}


def clear_scheme_cache() -> None:
    """Forget the cached encryption schemes of all wallets."""
    _schemes.clear()


def scheme_of(uri: NwcUri, endpoints: Sequence[Endpoint]) -> Scheme:
    """Return the encryption to use: NIP-44 if the wallet's info event offers it.

    Raises RequestNotSent if no relay answers.
    """
    key = (uri.pubkey, uri.relays)
    cached = _schemes.get(key)
    if cached is None or time.monotonic() > cached[1]:
        result = _fetch(uri, endpoints)
        ttl = _TTL if result.events else _DEFAULT_TTL
        cached = _offered_scheme(result, uri.pubkey), time.monotonic() + ttl
        if len(_schemes) > 10_000:
            _schemes.clear()
        _schemes[key] = cached
    return cached[0]


def _fetch(uri: NwcUri, endpoints: Sequence[Endpoint]) -> FetchResult:
    release_connection()
    filters = [{"kinds": [INFO], "authors": [uri.pubkey], "limit": 1}]
    try:
        result = get_pool().fetch(
            endpoints, filters, timeout=_TIMEOUT, secret_key=uri.secret
        )
    except RelayUnreachable as exc:
        raise RequestNotSent(exc.message) from exc
    if not result.answered and not result.events:
        raise RequestNotSent("The wallet's relays do not answer.")
    return result


def _offered_scheme(result: FetchResult, pubkey: str) -> Scheme:
    infos = [e for e in result.events if e.kind == INFO and e.pubkey == pubkey]
    latest = max(infos, key=lambda event: event.created_at, default=None)
    offered = " ".join(latest.values("encryption")) if latest else ""
    # NIP-47 says spaces; some wallets separate with commas.
    is_offered = Scheme.NIP44 in re.split(r"[\s,]+", offered)
    return Scheme.NIP44 if is_offered else Scheme.NIP04
